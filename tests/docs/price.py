#!/usr/bin/env python3
import json
import sys

question = json.load(sys.stdin)
price = question["price_microcredits"]
if question["requester_id"] == "12D3KooWExample":
    price *= 2
print(price)
