"""The largest of everything that a message may carry, each with its reason.

Owns numbers of the protocol, which both sides must agree on; what an operator may set is in the
configuration. All of them keep one stranger's message from costing more than a few milliseconds or a
megabyte.
"""

from __future__ import annotations

from typing import Final

from bacalhau.model.units import DAY_US, HOUR_US, KIB, MIB, SECOND_US

# An award holds one spec and a few hundred bytes; a spec has half of the room. gRPC's own limit is 4 MiB.
MAX_ENVELOPE_BYTES: Final = MIB
MAX_SPEC_BYTES: Final = 512 * KIB
# Inline data travels in one SubmitJob request, and has to stay below gRPC's 4 MiB with the rest of it.
MAX_INLINE_BYTES: Final = 2 * MIB

# As long as a statement may travel. Each one is remembered for so long, so it also bounds that memory.
MAX_VALID_FOR_US: Final = HOUR_US
# How long those of this node may: what is repeated is signed anew each time.
VALID_FOR_US: Final = 60 * SECOND_US
# How far apart the clocks of two honest nodes may be.
CLOCK_SKEW_US: Final = 30 * SECOND_US

# Statements remembered against replays; 200,000 with answers of 300 bytes are some 150 MB.
MAX_SEEN_PER_SENDER: Final = 50_000
MAX_SEEN: Final = 200_000

# Ids are UUIDs with a prefix, or composed of two of them.
MAX_ID_CHARS: Final = 128

# Names, label keys and label values are shown in one line of a table.
MAX_NAME_CHARS: Final = 255
# A refusal or fault is a sentence or two, with the end of a tool's output at most.
MAX_MESSAGE_CHARS: Final = 4096
MAX_FIGURES: Final = 32

MAX_LABELS: Final = 100
MAX_CONSTRAINTS: Final = 100
MAX_CONSTRAINT_VALUES: Final = 100

# Each input and output is a mount, of which engines hold a few hundred.
MAX_INPUTS: Final = 100
MAX_OUTPUTS: Final = 100
MAX_WASM_IMPORTS: Final = 100
# Linux: PATH_MAX and NAME_MAX.
MAX_PATH_BYTES: Final = 4096
MAX_PATH_COMPONENT_BYTES: Final = 255

MAX_ARGUMENTS: Final = 1000
MAX_ENVIRONMENT: Final = 1000
# Linux takes no single argument or variable above 128 KiB (MAX_ARG_STRLEN); here it is the limit of all of
# them.
MAX_ARGUMENT_BYTES: Final = 128 * KIB
MAX_ENVIRONMENT_BYTES: Final = 128 * KIB
# The distribution project's limit of a repository's name; tag and digest come on top.
MAX_IMAGE_NAME_CHARS: Final = 255
MAX_IMAGE_CHARS: Final = 700

MAX_COUNT: Final = 1000
# A requester keeps some answers of each of some nodes, far fewer in all.
MAX_BIDS_PER_OFFER: Final = 10**6
MAX_ATTEMPT: Final = 1_000_000
MAX_TIMEOUT_US: Final = 30 * DAY_US
MAX_BID_WINDOW_US: Final = HOUR_US
MAX_LEASE_US: Final = DAY_US

# A thousand million credits: nine thousand such prices still add up within SQLite's 64 bits.
MAX_PRICE_MICROCREDITS: Final = 10**15
# Balances add up such prices, of both signs, and have room for one more within 64 bits.
MAX_BALANCE_MICROCREDITS: Final = 2**62
# One a microsecond for 292,000 years.
MAX_SEQUENCE: Final = 2**62
# 8 PiB: exact in a JavaScript number, and a thousand of them add up within 64 bits.
MAX_BYTES: Final = 2**53
MAX_CPU_MILLICORES: Final = 10**9
MAX_GPUS: Final = 10**6

MAX_ADDRESSES: Final = 16
# A DNS name has at most 253 characters; brackets, colon and port come on top.
MAX_ADDRESS_CHARS: Final = 262

# 9999-12-31T23:59:59.999999Z, where google.protobuf.Timestamp ends.
MAX_TIMESTAMP_US: Final = 253_402_300_800 * SECOND_US - 1
