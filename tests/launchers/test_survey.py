"""Tests of vncgate.launchers.survey: when a place is asked for all of its desktops."""

import asyncio

import pytest

from vncgate.errors import LaunchError
from vncgate.launchers.survey import Survey


class Cluster:
    """What is asked, and when it was."""

    def __init__(self):
        self.asked = []
        self.trouble = None
        self.lasts = 0.0  # seconds that an answer takes

    async def jobs(self):
        self.asked.append(asyncio.get_running_loop().time())
        if self.lasts:
            await asyncio.sleep(self.lasts)
        if self.trouble:
            raise self.trouble
        return ["a job"]


@pytest.fixture
def cluster():
    return Cluster()


@pytest.fixture
async def survey(cluster):
    survey = Survey(cluster.jobs, 3.0, "hpc")
    yield survey
    await survey.aclose()


@pytest.mark.virtual_time
async def test_many_share_one_question(survey, cluster):
    await asyncio.gather(*(survey.look() for _ in range(30)))
    await asyncio.sleep(2.9)
    await asyncio.gather(*(survey.look() for _ in range(30)))
    assert cluster.asked == [0.0]
    await asyncio.sleep(0.2)
    await asyncio.gather(*(survey.look() for _ in range(30)))
    assert len(cluster.asked) == 2


@pytest.mark.virtual_time
async def test_nobody_asks_nothing_is_asked(survey, cluster):
    await survey.look()
    await asyncio.sleep(1000)
    assert cluster.asked == [0.0]


@pytest.mark.virtual_time
async def test_whoever_needs_a_newer_answer_waits_for_its_turn(survey, cluster):
    await survey.look()
    await asyncio.sleep(1)
    answers = await asyncio.gather(*(survey.look(survey.asked) for _ in range(10)))
    assert cluster.asked == [0.0, 3.0]
    assert {answer.when for answer in answers} == {3.0}


@pytest.mark.virtual_time
async def test_a_question_under_way_is_too_old_for_what_began_after_it(survey, cluster):
    cluster.lasts = 2.0
    first = asyncio.ensure_future(survey.look())
    await asyncio.sleep(1)
    answer = await survey.look(survey.asked)
    assert cluster.asked == [0.0, 5.0]
    assert (answer.number, (await first).number) == (2, 1)


@pytest.mark.virtual_time
async def test_a_slow_cluster_is_given_a_rest_between_two_questions(survey, cluster):
    cluster.lasts = 10.0
    for _ in range(3):
        await survey.look(survey.asked)
    assert cluster.asked == [0.0, 13.0, 26.0]


@pytest.mark.virtual_time
async def test_one_who_goes_away_takes_nobodys_answer_along(survey, cluster):
    cluster.lasts = 2.0
    first, second = asyncio.ensure_future(survey.look()), asyncio.ensure_future(survey.look())
    await asyncio.sleep(1)
    first.cancel()
    assert (await second).trouble is None
    assert cluster.asked == [0.0]


@pytest.mark.virtual_time
async def test_no_answer_is_an_answer_too_and_is_not_asked_for_at_once_again(survey, cluster):
    cluster.trouble = LaunchError("nobody there")
    assert str((await survey.look()).trouble) == "nobody there"
    assert str((await survey.look()).trouble) == "nobody there"
    assert cluster.asked == [0.0]
    await asyncio.sleep(3)
    cluster.trouble = None
    assert (await survey.look()).trouble is None
    assert (await survey.look()).known() == ["a job"]
