"""Random numbers as hashes of what they are for, so that no order of work can change them.

A number is a function of (seed, document, pass, step, purpose). Streams of a generator would depend on how
many were drawn before, and so on the number of workers and the size of their batches.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint64]

GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: steps of SplitMix64 (Steele, Lea, Flood 2014)
_ALL_ONES = 0xFFFFFFFFFFFFFFFF


def document_key(document_id: str, purpose: str = "") -> int:
    """64 bits that stand for a document: BLAKE2b of its id, the same on every machine.

    Keys for different purposes (at most 16 bytes) are independent of each other.
    """
    digest = hashlib.blake2b(document_id.encode(), digest_size=8, person=purpose.encode())
    return int.from_bytes(digest.digest(), "little")


def draw(keys: Bits, *counters: "int | NDArray[np.integer]") -> Bits:
    """Independent uniform 64-bit numbers for `keys` and counters, which are integers or arrays like `keys`."""
    bits = keys
    for counter in counters:
        bits = _mixed(bits + (_as_bits(np.atleast_1d(counter)) + np.uint64(1)) * np.uint64(GOLDEN))
    return bits


def unit(bits: Bits) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1)."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def below(bits: Bits, bounds: "int | NDArray[np.integer]") -> NDArray[np.int64]:
    """Uniform integers in [0, bounds); bounds are 1..2^32."""
    return ((bits >> np.uint64(32)) * _as_bits(bounds) >> np.uint64(32)).astype(np.int64)


def heads(bits: Bits, tosses: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of `tosses` fair coins fall heads: the ones among that many random bits."""
    counts = np.zeros(len(bits), np.int64)
    tossing = np.flatnonzero(tosses > 0)
    for word in range(-(-int(tosses.max(initial=0)) // 64)):
        left = np.minimum(tosses[tossing] - 64 * word, 64)
        counts[tossing] += np.bitwise_count(draw(bits[tossing], word) & (_ALL_ONES >> _as_bits(64 - left)))
        tossing = tossing[tosses[tossing] > 64 * (word + 1)]
    return counts


def _as_bits(number: "int | NDArray[np.integer]") -> Bits:
    return np.asarray(number).astype(np.uint64)


def _mixed(bits: Bits) -> Bits:
    """SplitMix64's output function: a bijection in which every input bit flips every output bit half the time."""
    bits = bits ^ (bits >> np.uint64(30))
    bits = bits * np.uint64(0xBF58476D1CE4E5B9)
    bits = bits ^ (bits >> np.uint64(27))
    bits = bits * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
