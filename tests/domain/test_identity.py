"""Ids that are made here."""

import os
from concurrent.futures import ThreadPoolExecutor

from nilometer.domain.identity import canonical_uuid, uuid7

MOMENT = 1_767_323_045_678_901


def test_an_id_is_of_its_version_and_its_moment():
    made = uuid7(MOMENT)
    assert canonical_uuid(made) == made
    assert (made[14], made[19] in "89ab") == ("7", True)
    assert int(made[:8] + made[9:13], 16) == MOMENT // 1000


def test_no_two_are_alike_in_any_number_of_threads():
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(uuid7, [MOMENT] * 20_000))
    assert len(set(made)) == len(made)


def test_a_forked_process_makes_others_than_the_one_that_it_came_from():
    uuid7(MOMENT)  # there is something left over to be inherited
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, "".join(uuid7(MOMENT) for _ in range(50)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as told:
        text = told.read()
    theirs = {text[at : at + 36] for at in range(0, len(text), 36)}
    assert len(theirs) == 50
    assert theirs.isdisjoint(uuid7(MOMENT) for _ in range(300))
