"""The file: who may read it, and what happens where it is full, damaged, foreign, newer or older."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from pathlib import Path

import pytest

from bacalhau.market.ledger import set_aside
from bacalhau.scheduler.history import JobQuery
from bacalhau.scheduler.records import Books
from bacalhau.store.errors import StoreBusy, StoreCorrupt, StoreFailed, StoreFull, StoreTooNew
from bacalhau.store.schema import APPLICATION_ID, MIGRATIONS, migrate
from bacalhau.store.store import Store
from tests.store.version1 import VERSION_1_FILE, written_by_version_1

LATER = (*MIGRATIONS, ("ALTER TABLE jobs ADD COLUMN note TEXT NOT NULL DEFAULT 'none'", "DELETE FROM meta"))


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def version(path: Path) -> int:
    database = connect(path)
    (found,) = database.execute("PRAGMA user_version").fetchone()
    database.close()
    return int(found)


@pytest.fixture
def version_1(tmp_path: Path) -> Path:
    return Path(shutil.copy(VERSION_1_FILE, tmp_path / "node.db"))


def test_what_version_1_wrote_is_read_by_this_version(version_1: Path) -> None:
    store = Store(version_1)
    done, running = written_by_version_1()
    stored = store.job(done.id)
    assert stored is not None
    assert (stored.accepted, stored.executions) == (done.accepted, (done.execution,))
    assert [one.sequence for one in store.happenings(done.id)] == [1, 2, 3, 4, 5]
    assert store.offer(done.offer.id) == done.offer
    assert [(one.node_id, one.won) for one in store.answers(done.id)[0]] == [
        ("node-2", False),
        ("node-1", True),
    ]
    assert store.clearings(done.id) == []
    assert [one.id for one in store.open_jobs()] == [running.id]
    assert store.unsettled_work() == [running.work]
    assert store.get_meta("clock_us") == "1003"
    assert [one.id for one in store.list_jobs(JobQuery(include_labels=("team",)))[0]] == [running.id, done.id]
    assert store.needed_contents(0) >= {done.result}
    assert store.books() == Books()
    ((opened,), _) = store.transactions()
    assert opened.transaction == set_aside("node-1", running.execution.id, 7, running.execution.created_us)
    store.close()
    assert version(version_1) == len(MIGRATIONS)


def test_a_new_file_has_the_tables_of_a_migrated_one(tmp_path: Path, version_1: Path) -> None:
    Store(tmp_path / "new.db").close()
    Store(version_1).close()
    schemas = []
    for path in (tmp_path / "new.db", version_1):
        database = connect(path)
        schemas.append(database.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall())
        database.close()
    assert schemas[0] == schemas[1]


def test_a_migration_changes_the_file_and_its_version(version_1: Path) -> None:
    database = connect(version_1)
    migrate(database, version_1, LATER)
    assert database.execute("SELECT DISTINCT note FROM jobs").fetchall() == [("none",)]
    database.close()
    assert version(version_1) == len(LATER)


def test_a_migration_that_fails_leaves_the_file_as_it_was(version_1: Path) -> None:
    database = connect(version_1)
    with pytest.raises(sqlite3.OperationalError):
        migrate(database, version_1, (*LATER, ("DROP TABLE not_there",)))
    database.close()
    assert version(version_1) == 1
    store = Store(version_1)
    assert store.get_meta("clock_us") == "1003"
    store.close()


def test_a_file_of_a_later_version_is_refused_and_not_touched(version_1: Path) -> None:
    database = connect(version_1)
    migrate(database, version_1, LATER)
    database.close()
    before = version_1.read_bytes()
    known, found = len(MIGRATIONS), len(LATER)
    says = rf"node\.db has version {found} .*versions up to {known}: install"
    with pytest.raises(StoreTooNew, match=says):
        Store(version_1)
    assert version_1.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    path.write_bytes(b"this is a text, not a database\n" * 200)
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt, match=r"node\.db is no database: move it away"):
        Store(path)
    assert path.read_bytes() == before


def test_the_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    database = connect(path)
    database.execute("CREATE TABLE bookmarks (url TEXT)")
    database.close()
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt, match=r"node\.db is another program's database"):
        Store(path)
    assert path.read_bytes() == before


def test_a_damaged_file_is_named_with_what_to_do(version_1: Path) -> None:
    data = bytearray(version_1.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    version_1.write_bytes(data)
    with pytest.raises(StoreCorrupt, match=r"node\.db is damaged .*restore a backup"):
        Store(version_1).open_jobs()


def test_a_record_that_cannot_be_read_is_named_as_damage(version_1: Path) -> None:
    database = connect(version_1)
    database.execute("UPDATE jobs SET spec = x'ffffff'")
    database.close()
    store = Store(version_1)
    with pytest.raises(StoreCorrupt, match=r"node\.db is damaged"):
        store.open_jobs()
    assert store.get_meta("clock_us") == "1003"
    store.close()


def test_a_full_disk_writes_nothing_and_the_store_goes_on(tmp_path: Path) -> None:
    """SQLite's own limit of pages stands for the disk's: both give SQLITE_FULL."""
    done, running = written_by_version_1()
    store = Store(tmp_path / "node.db")
    store.commit(done.writes())
    writer = store._writer
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {pages}")
    too_much = running.writes()
    with pytest.raises(StoreFull, match=r"no room to write .*node\.db: free some space"):
        store.commit(too_much, meta={"large": "x" * 100_000})
    assert store.job(running.id) is None
    assert store.happenings(running.id) == []
    assert store.job(done.id) is not None
    writer.execute("PRAGMA max_page_count = 100000")
    store.commit(too_much)
    assert store.job(running.id) is not None
    store.close()


def test_another_process_that_keeps_the_lock_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bacalhau.store.store._BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "node.db"
    store = Store(path)
    other = connect(path)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy, match="another process is writing"):
        store.set_meta("a", "1")
    assert store.get_meta("a") is None
    other.execute("ROLLBACK")
    other.close()
    store.set_meta("a", "1")
    store.close()


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Specs hold the environments of jobs, and in these are secrets."""
    store = Store(tmp_path / "data" / "node.db")
    store.set_meta("a", "1")
    files = list((tmp_path / "data").iterdir())
    assert len(files) == 3
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    store.close()


def test_a_place_where_no_file_can_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFailed, match=r"cannot open .*node\.db"):
        Store(tmp_path / "file" / "node.db")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreFailed, match="cannot open"):
        Store(tmp_path / "folder")


def test_a_durable_store_syncs_each_commit(tmp_path: Path) -> None:
    for durable, level in ((True, 2), (False, 1)):
        store = Store(tmp_path / f"{durable}.db", durable=durable)
        assert store._writer.execute("PRAGMA synchronous").fetchone() == (level,)
        assert store._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert store._writer.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        store.close()
