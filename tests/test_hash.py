"""Pool hashing against the vectors of pools-and-cluster 2.2, on both twins."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linguad import _hash_py


@pytest.fixture(params=["_hash", "_hash_py"])
def twin(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(f"linguad.{request.param}")


VECTORS = [
    ("", 0, 16, 0xA8C7F832281A39C5, 5),
    ("", 1, 16, 0x89CD31291D2AEFA4, 4),
    ("abc", 0, 16, 0x42E4F4CAFDACEEAB, 11),
    ("abc", 1, 16, 0x23EA2DC1F2BDA48A, 10),
    ("abc", 0, 7, 0x42E4F4CAFDACEEAB, 1),
    ("abc", 1, 7, 0x23EA2DC1F2BDA48A, 4),
    ("abc", 16, 16, 0x3291655BACA190BB, 11),
    ("abc", 256, 16, 0x7D927940ABD91BD0, 0),
    ("abc", 4294967296, 97, 0xA2EA48C2A777321A, 2),
    ("abc", 18446744073709551615, 16, 0x0B2F23A66D455B23, 3),
    ("a", 0, 16, 0xBFE4D88F2353F60C, 12),
    ("q", 0, 16, 0xF68A2E686D03573C, 12),
    ("qrs", 0, 16, 0x61461F3CC52E47FB, 11),
    ("tenant-A", 0, 16, 0xCE8FD4DC4B07CEBB, 11),
    ("tenant-A", 16, 16, 0xDEE3644B9C132CAB, 11),
    ("tenant-A", 42, 16, 0x781CEFA33B982D91, 1),
    ("tenant-A", 0, 2, 0xCE8FD4DC4B07CEBB, 1),
    ("tenant-B", 0, 16, 0x61FA2A39DFA2C4CE, 14),
    ("tenant-B", 0, 2, 0x61FA2A39DFA2C4CE, 0),
    ("sess-0001", 0, 16, 0x359E9A44607230BD, 13),
    ("sess-0001", 0, 0, 0x359E9A44607230BD, 0),
    ("sess-0001", 0, 1, 0x359E9A44607230BD, 0),
    ("sess-0001", 0, 100, 0x359E9A44607230BD, 5),
    ("sess-0001", 0, 1000, 0x359E9A44607230BD, 205),
    ("node-1A2B3C4D", 0, 16, 0x422D9640BC701C60, 0),
    ("node-1A2B3C4D", 7, 16, 0x1B09078008FB2347, 7),
    ("node-1A2B3C4D", 0, 17, 0x422D9640BC701C60, 1),
    ("default", 0, 16, 0xE37AB2EF8796F1BE, 14),
    ("00000000-0000-4000-8000-000000000000", 0, 16, 0xB4660002192774F5, 5),
    ("租户-甲", 0, 16, 0xAB93EF57A188137D, 13),
    ("租户-甲", 42, 16, 0xD10C2642BDD59AD7, 7),
    ("会话", 0, 1000, 0x6084B71592EB310F, 727),
    ("caf\u00e9", 0, 16, 0x95B6051B2CF658A9, 9),
    ("cafe\u0301", 0, 16, 0xC13715D3D9D59897, 7),
    ("Ünïcödé", 255, 64, 0xA6E3CDCF9E41B1ED, 45),
    ("😀", 0, 16, 0x9F175FDB56F5A388, 8),
    ("日本語-セッション", 18446744073709551615, 65535, 0x0A4868DA200F32C1, 50674),
    ("节点-01", 0, 16, 0x4F891DDE08CC582B, 11),
]


@pytest.mark.parametrize(("key", "seed", "count", "hashed", "pool"), VECTORS)
def test_vectors(twin: ModuleType, key: str, seed: int, count: int, hashed: int, pool: int) -> None:
    assert twin.fnv1a64(key, seed) == hashed
    assert twin.fnv1a64(key.encode(), seed) == hashed
    assert twin.pool_id_for_key(count, seed, key) == pool
    assert twin.pick_index_for_key(count, seed, key) == pool


def test_published_fnv1a_values() -> None:
    """Taking the seed's eight zero bytes back out gives the published FNV-1a values."""
    undo = pow(0x100000001B3, -8, 2**64)
    for key, plain in (("", 0xCBF29CE484222325), ("a", 0xAF63DC4C8601EC8C), ("foobar", 0x85944171F73967E8)):
        assert _hash_py.fnv1a64(key, 0) * undo % 2**64 == plain


@pytest.mark.parametrize(
    ("count", "preferred", "order"),
    [
        (4, 2, [2, 3, 0, 1]),
        (5, 7, [2, 3, 4, 0, 1]),
        (0, 5, [0]),
        (16, 15, [15, *range(15)]),
    ],
)
def test_probe_order(twin: ModuleType, count: int, preferred: int, order: list[int]) -> None:
    assert twin.pool_probe_order(count, preferred) == order


@pytest.mark.parametrize(
    ("ids", "start", "order"),
    [([10, 11, 12, 20], 2, [12, 20, 10, 11]), ([5, 7, 9], 4, [7, 9, 5]), ([], 1, [])],
)
def test_ring_order(twin: ModuleType, ids: list[int], start: int, order: list[int]) -> None:
    assert twin.ring_order_ids(ids, start) == order


@pytest.mark.parametrize(
    ("eligible", "key", "seed", "index", "order"),
    [
        ([10, 11, 12], "tenant-A", 0, 2, [12, 10, 11]),
        ([10, 11, 12], "tenant-A", 42, 0, [10, 11, 12]),
        ([1, 2, 3, 4, 5, 6, 7], "abc", 0, 1, [2, 3, 4, 5, 6, 7, 1]),
    ],
)
def test_eligible_pools(
    twin: ModuleType, eligible: list[int], key: str, seed: int, index: int, order: list[int]
) -> None:
    assert twin.pick_index_for_key(len(eligible), seed, key) == index
    assert twin.ring_order_ids(eligible, index) == order


@pytest.mark.parametrize(
    ("key", "pool"), [("node-cap-0", 11), ("node-cap-1", 10), ("node-cap-2", 11), ("tenant-B", 10)]
)
def test_capability_tie(twin: ModuleType, key: str, pool: int) -> None:
    assert [10, 11][twin.pick_index_for_key(2, 0, key)] == pool


@pytest.mark.parametrize(
    ("members", "count"),
    [
        (0, 1),
        (1, 1),
        (100, 1),
        (101, 2),
        (200, 2),
        (201, 3),
        (301, 5),
        (1_100, 11),
        (1_101, 17),
        (57_700, 577),
        (57_701, 997),
        (99_700, 997),
        (1_000_000, 997),
    ],
)
def test_pool_count_ladder(twin: ModuleType, members: int, count: int) -> None:
    assert twin.pool_count_for(members) == count
    assert twin.pool_count_for(members * 3, max_members=300) == count


def test_every_step_of_the_ladder(twin: ModuleType) -> None:
    ladder = (1, 2, 3, 5, 7, 11, 17, 29, 47, 79, 127, 211, 347, 577, 997)
    assert [twin.pool_count_for(count * 100) for count in ladder] == list(ladder)
    assert [twin.pool_count_for(count * 100 + 1) for count in ladder] == [*ladder[1:], 997]


def test_wrong_arguments(twin: ModuleType) -> None:
    for seed in (-1, 2**64):
        with pytest.raises(OverflowError):
            twin.fnv1a64("key", seed)
    with pytest.raises(TypeError, match="text or bytes"):
        twin.fnv1a64(7, 0)
    with pytest.raises(UnicodeEncodeError):
        twin.fnv1a64("\ud800", 0)
    with pytest.raises(ValueError, match="max_members"):
        twin.pool_count_for(1, 0)


@given(st.text() | st.binary(), st.integers(0, 2**64 - 1), st.integers(0, 2**16 - 1))
def test_twins_hash_alike(key: str | bytes, seed: int, count: int) -> None:
    compiled = importlib.import_module("linguad._hash")
    assert compiled.fnv1a64(key, seed) == _hash_py.fnv1a64(key, seed)
    assert compiled.pool_id_for_key(count, seed, key) == _hash_py.pool_id_for_key(count, seed, key)
