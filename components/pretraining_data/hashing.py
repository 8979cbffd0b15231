"""Documents to numbers: the start of everything random that is done with them."""

import hashlib


def document_key(document_id: str, purpose: str = "") -> int:
    """64 bits that stand for a document: BLAKE2b of its id, the same on every machine.

    Keys for different purposes (at most 16 bytes) are independent of each other.
    """
    digest = hashlib.blake2b(document_id.encode(), digest_size=8, person=purpose.encode())
    return int.from_bytes(digest.digest(), "little")
