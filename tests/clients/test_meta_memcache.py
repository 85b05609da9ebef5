"""What meta-memcache, a client that speaks meta commands alone, sees of a server.

The package's source distribution has no tests of its own. These go through its public interface: every
high-level command, leases, recaching, stale values, and failure to compare. MEMCACHED_ADDRESS is host:port.
"""

import os
import threading

import pytest
from meta_memcache import (
    CacheClient,
    Key,
    LeasePolicy,
    RecachePolicy,
    RequestFlags,
    ServerAddress,
    SetMode,
    StalePolicy,
    connection_pool_factory_builder,
)
from meta_memcache.protocol import Conflict, Miss, NotStored, Success, Value

LONG_SECONDS = 1000


@pytest.fixture(scope="module")
def client():
    host, port = os.environ["MEMCACHED_ADDRESS"].rsplit(":", 1)
    return CacheClient.cache_client_from_servers(
        servers=[ServerAddress(host=host, port=int(port))],
        connection_pool_factory_fn=connection_pool_factory_builder(recv_timeout=10),
    )


@pytest.mark.parametrize(
    "value",
    [b"bytes", "text", b"", 42, {"a": [1, 2, None]}, b"\r\n\0" * 1000, "v" * 900_000],
    ids=["bytes", "text", "empty", "number", "object", "line ends", "large"],
)
def test_values_come_back(client, value):
    assert client.set("value", value, ttl=LONG_SECONDS)
    assert client.get("value") == value


@pytest.mark.parametrize("name", ["plain", "🍺", "k" * 500, "with blanks"])
def test_keys_of_any_kind(client, name):
    key = Key(name)
    assert client.get(key) is None
    assert client.set(key, "beer", ttl=LONG_SECONDS)
    assert client.get(key) == "beer"
    assert client.multi_get([key, Key("missing")]) == {key: "beer", Key("missing"): None}
    assert client.delete(key)
    assert not client.delete(key)
    assert client.invalidate(key)


def test_modes_of_storing(client):
    for mode in (SetMode.REPLACE, SetMode.APPEND, SetMode.PREPEND):
        assert not client.set("mode", "x", ttl=LONG_SECONDS, set_mode=mode)
    assert client.refill("mode", b"b", ttl=LONG_SECONDS)
    assert not client.refill("mode", b"x", ttl=LONG_SECONDS)
    assert client.set("mode", b"c", ttl=LONG_SECONDS, set_mode=SetMode.APPEND)
    assert client.set("mode", b"a", ttl=LONG_SECONDS, set_mode=SetMode.PREPEND)
    assert client.get("mode") == b"abc"
    assert client.set("mode", b"d", ttl=LONG_SECONDS, set_mode=SetMode.REPLACE)
    assert client.get("mode") == b"d"


def test_many_keys_at_once(client):
    expected = {Key(f"many:{number}"): number for number in range(500)}
    for key, value in expected.items():
        client.set(key, value, ttl=LONG_SECONDS, no_reply=True)
    assert client.multi_get(expected) == expected


def test_compare_and_store(client):
    assert client.set_cas("cas", "1", ttl=LONG_SECONDS) is not None
    value, token = client.get_cas("cas")
    assert value == "1"
    newer = client.set_cas("cas", "2", ttl=LONG_SECONDS, cas_token=token)
    assert newer is not None and newer != token
    assert not client.set("cas", "3", ttl=LONG_SECONDS, cas_token=token)
    assert isinstance(client.meta_delete(Key("cas"), flags=RequestFlags(cas_token=token)), Conflict)
    assert client.get_cas("cas") == ("2", newer)
    assert client.delete("cas", cas_token=newer)


def test_counters(client):
    assert client.delta_and_get("count", 1) is None
    assert client.delta_initialize_and_get("count", 5, initial_value=40, initial_ttl=LONG_SECONDS) == 40
    assert client.delta_initialize_and_get("count", 5, initial_value=40, initial_ttl=LONG_SECONDS) == 45
    assert client.delta_and_get("count", -3) == 42
    assert client.delta("count", -100)
    assert client.delta_and_get("count", 1) == 1


def test_times_to_live(client):
    asked = RequestFlags(return_value=True, return_ttl=True, return_size=True, return_fetched=True)
    assert client.set("ttl", b"12345", ttl=100)
    first = client.meta_get(Key("ttl"), flags=asked)
    assert isinstance(first, Value) and first.size == 5
    assert 98 <= first.flags.ttl <= 100 and not first.flags.fetched
    assert client.touch("ttl", ttl=200)
    second = client.meta_get(Key("ttl"), flags=asked)
    assert 198 <= second.flags.ttl <= 200 and second.flags.fetched
    assert not client.touch("missing", ttl=1)


def test_one_winner_for_each_lease(client):
    policy = LeasePolicy(ttl=LONG_SECONDS, miss_retries=1)
    outcomes = []
    ask = lambda: outcomes.append(client._get_or_lease("lease", policy))
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [outcome.value for outcome in outcomes] == [None] * 8
    winners = [outcome for outcome in outcomes if outcome.flags.win]
    assert len(winners) == 1
    token = winners[0].flags.cas_token
    assert client.set("lease", "filled", ttl=LONG_SECONDS, cas_token=token)
    assert client.get_or_lease("lease", policy) == "filled"


def test_one_client_recaches_what_is_about_to_expire(client):
    assert client.set("recache", "old", ttl=10)
    policy = RecachePolicy(ttl=30)
    assert client.get("recache", recache_policy=policy) is None, "the first is to fetch it anew"
    assert client.get("recache", recache_policy=policy) == "old"
    assert client.set("recache", "new", ttl=LONG_SECONDS)
    assert client.get("recache", recache_policy=policy) == "new"


def test_stale_values_serve_until_one_client_has_fetched_anew(client):
    policy = StalePolicy(mark_stale_on_deletion_ttl=100, mark_stale_on_cas_mismatch=True)
    assert client.set("stale", "old", ttl=LONG_SECONDS)
    _, before = client.get_cas("stale")
    assert client.delete("stale", stale_policy=policy)
    winner, token = client.get_cas("stale")
    assert winner is None and token != before
    loser = client.meta_get(Key("stale"), flags=RequestFlags(return_value=True, return_ttl=True))
    assert loser.value == "old" and loser.flags.stale and loser.flags.win is False
    assert loser.flags.ttl <= 100
    # One who was late: what it has is stored, but stale.
    assert client.set("stale", "late", ttl=LONG_SECONDS, cas_token=before, stale_policy=policy)
    late = client.meta_get(Key("stale"), flags=RequestFlags(return_value=True))
    assert late.value == "late" and late.flags.stale and late.flags.win is False
    assert client.set("stale", "fresh", ttl=LONG_SECONDS)
    fresh = client.meta_get(Key("stale"), flags=RequestFlags(return_value=True))
    assert fresh.value == "fresh" and not fresh.flags.stale


def test_answers_without_a_value(client):
    assert isinstance(client.meta_get(Key("missing")), Miss)
    assert isinstance(client.meta_delete(Key("missing")), Miss)
    assert client.set("present", "1", ttl=LONG_SECONDS)
    assert isinstance(client.meta_get(Key("present"), flags=RequestFlags(no_update_lru=True)), Success)
    add = RequestFlags(mode=SetMode.ADD.value)
    assert isinstance(client.meta_set(Key("present"), "2", flags=add), NotStored)
