"""Tests of the market: bidding, pricing, clearing."""
