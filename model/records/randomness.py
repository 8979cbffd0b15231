"""Random numbers as hashes of what they are for, so that no order of work can change them.

A number is a function of (seed, document, pass, step, purpose). Streams of a generator would depend on how
many were drawn before, and so on the number of workers and the size of their batches. Results are made np.int64:
compiled, int() keeps a number unsigned, and unsigned with signed gives a float.
"""

import numpy as np

from bertline.tokenizer.compiled import compiled

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: steps of SplitMix64 (Steele, Lea, Flood 2014)
_MULTIPLIER_1, _MULTIPLIER_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_ONE, _11, _27, _30, _31, _32 = (np.uint64(number) for number in (1, 11, 27, 30, 31, 32))
# Counting the ones of a word in parallel (Warren, Hacker's Delight, 5-1).
_TWOS, _FOURS, _EIGHTS, _SUM = (
    np.uint64(mask) for mask in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F, 0x0101010101010101)
)


@compiled
def draw(key: np.uint64, counter: int) -> np.uint64:
    """64 uniform bits for a key and a counter of at least 0; independent for other keys and counters."""
    return _mix(np.uint64(key) + (np.uint64(counter) + _ONE) * GOLDEN)


@compiled
def unit(bits: np.uint64) -> float:
    """A uniform number in [0, 1)."""
    return float(bits >> _11) * 2.0**-53


@compiled
def below(bits: np.uint64, bound: int) -> int:
    """A uniform integer in [0, bound); bounds are 1..2^32."""
    return np.int64(((bits >> _32) * np.uint64(bound)) >> _32)  # type: ignore[return-value]


@compiled
def toss_coins(bits: np.uint64, tosses: int) -> int:
    """How many of `tosses` fair coins fall heads: the ones among that many random bits."""
    count = 0
    word = 0
    while tosses > 0:
        fresh = draw(bits, word)
        if tosses < 64:
            fresh &= (_ONE << np.uint64(tosses)) - _ONE
        count += _ones(fresh)
        tosses -= 64
        word += 1
    return count


@compiled
def _mix(bits: np.uint64) -> np.uint64:
    """SplitMix64's output function: a bijection in which every input bit flips every output bit half the time."""
    bits = (bits ^ (bits >> _30)) * _MULTIPLIER_1
    bits = (bits ^ (bits >> _27)) * _MULTIPLIER_2
    return bits ^ (bits >> _31)


@compiled
def _ones(bits: np.uint64) -> int:
    bits -= (bits >> _ONE) & _TWOS
    bits = (bits & _FOURS) + ((bits >> np.uint64(2)) & _FOURS)
    bits = (bits + (bits >> np.uint64(4))) & _EIGHTS
    return np.int64((bits * _SUM) >> np.uint64(56))  # type: ignore[return-value]
