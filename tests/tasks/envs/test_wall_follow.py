"""The wall-following robot against geometry done by other means."""

from __future__ import annotations

import cmath
import math

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from distes.policies import Pid
from distes.tasks.envs import wall_follow
from distes.tasks.envs.wall_follow import WallFollow, reward_for
from distes.tasks.envs.wall_geometry import Pose, Wall, drive, read_wall, stop_at_wall

angles = st.floats(math.pi / 6, math.pi / 3)
readings = st.floats(150.0, 200.0)
speeds = st.floats(-324.0, 324.0)
poses = st.builds(Pose, st.floats(-300, 60), st.floats(-300, 60), st.floats(-7, 7))


def driven_finely(pose, left, right, pieces=20000):
    """Integrate the motion of a two-wheeled robot with the midpoint rule."""
    z, heading, h = complex(pose.x, pose.y), pose.heading, 0.1 / pieces
    turn = (right - left) / 280.0
    middle = heading + turn * h * (np.arange(pieces) + 0.5)
    z += (left + right) / 2 * h * np.exp(1j * middle).sum()
    return z.real, z.imag, heading + turn * 0.1


def test_straight_line():
    assert drive(Pose(3.0, 4.0, 0.0), 100.0, 100.0) == pytest.approx((13.0, 4.0, 0.0))
    assert drive(Pose(0.0, 0.0, math.pi / 2), 150.0, 150.0) == pytest.approx((0, 15, math.pi / 2))
    back = drive(Pose(0.0, 0.0, math.pi / 6), -200.0, -200.0)
    assert back == pytest.approx((-20 * math.sqrt(0.75), -10, math.pi / 6))


def test_turning_in_place():
    """Opposite speeds move nothing; the right wheel forwards turns to the left."""
    pose = drive(Pose(5.0, 6.0, 1.0), -280.0, 280.0)
    assert pose == pytest.approx((5.0, 6.0, 1.2))


def test_arc_around_a_standing_wheel():
    """With the left wheel standing, the robot circles about it, half a wheel base away."""
    turn = 28.0 / 280.0
    pose = drive(Pose(0.0, 0.0, math.pi / 2), 0.0, 280.0)
    assert pose == pytest.approx((-140 + 140 * math.cos(turn), 140 * math.sin(turn), 1.670796327))


@settings(max_examples=30, deadline=None)
@given(poses, speeds, speeds)
def test_arcs_are_the_motion_of_two_wheels(pose, left, right):
    assert drive(pose, left, right) == pytest.approx(
        driven_finely(pose, left, right), rel=1e-6, abs=1e-6
    )


@given(readings, angles)
def test_first_reading_and_angle_are_the_context(reading, angle):
    """A wall anywhere else would make the context a lie."""
    wall, start = Wall.at(reading, angle), Pose(0.0, 0.0, math.pi / 2)
    assert wall.range_from(start) == pytest.approx(reading)
    along = complex(*start.ray_end(reading)) + 100 * cmath.exp(1j * (math.pi / 2 + angle))
    assert wall.distance(along.real, along.imag) == pytest.approx(0.0, abs=1e-9)
    assert wall.distance(0.0, 0.0) > 0


@given(readings, angles, poses)
def test_ray_ends_on_the_wall_or_sees_none(reading, angle, pose):
    """Otherwise the sensor sees the wall behind it, or through a scale."""
    wall = Wall.at(reading, angle)
    assume(wall.distance(pose.x, pose.y) > 0.01)
    length = wall.range_from(pose)
    ray = pose.heading - math.pi / 2 + math.radians(18)
    step = wall.distance(pose.x + math.cos(ray), pose.y + math.sin(ray))
    comes_nearer = step < wall.distance(pose.x, pose.y)
    assume(abs(step - wall.distance(pose.x, pose.y)) > 1e-9)
    assert math.isfinite(length) == comes_nearer
    if comes_nearer:
        assert length > 0
        # By the tangents of the two lines, where the first coordinate of the end is unknown.
        slope, ray_slope = math.tan(math.pi / 2 + angle), math.tan(ray)
        assume(abs(slope - ray_slope) > 1e-3 and abs(math.cos(ray)) > 1e-3)
        x = (pose.y - wall.y - pose.x * ray_slope + wall.x * slope) / (slope - ray_slope)
        y = pose.y + ray_slope * (x - pose.x)
        assert length == pytest.approx(math.hypot(x - pose.x, y - pose.y), rel=1e-6, abs=1e-6)


@given(readings, angles, poses, speeds, speeds)
def test_collisions_stop_before_the_wall(reading, angle, pose, left, right):
    wall = Wall.at(reading, angle)
    assume(wall.distance(pose.x, pose.y) > 0.001)
    wanted = drive(pose, left, right)
    after, met = stop_at_wall(wall, pose, wanted)
    beyond = wall.distance(wanted.x, wanted.y) <= 0
    assert met == beyond
    assert wall.distance(after.x, after.y) > 0
    assert after.heading == wanted.heading
    if not met:
        assert after == wanted
    else:
        # Set back, the hit is on the wall and on the way there.
        hit = after.x + 0.01, after.y + 0.01
        assert wall.distance(*hit) == pytest.approx(0.0, abs=1e-6)
        way = math.dist((pose.x, pose.y), hit) + math.dist(hit, (wanted.x, wanted.y))
        assert way == pytest.approx(math.dist(pose[:2], wanted[:2]), abs=1e-6)


def by_law_of_cosines(pose, earlier, latest):
    """Distance and angle in slopes and squared sides, as one would on paper."""
    slope = (latest[1] - earlier[1]) / (latest[0] - earlier[0])
    lateral = math.tan(pose.heading - math.pi / 2)
    x = (pose.y - latest[1] + slope * latest[0] - lateral * pose.x) / (slope - lateral)
    y = pose.y + lateral * (x - pose.x)
    # The foot: across the lateral line's direction.
    q = (latest[0] + lateral * (latest[1] - pose.y) + lateral**2 * pose.x) / (1 + lateral**2)
    r = pose.y + lateral * (q - pose.x)
    a, b = (latest[0] - x) ** 2 + (latest[1] - y) ** 2, (latest[0] - q) ** 2 + (latest[1] - r) ** 2
    c = (x - q) ** 2 + (y - r) ** 2
    angle = math.acos(min(1.0, (a + b - c) / (2 * math.sqrt(a * b))))
    return math.hypot(x - pose.x, y - pose.y), -angle if q > x else angle


@given(readings, angles, poses, st.floats(5, 200), st.floats(0.05, 3))
def test_distance_and_angle_by_the_law_of_cosines(reading, angle, pose, apart, heading):
    pose = pose._replace(heading=heading)
    wall = Wall.at(reading, angle)
    assume(wall.distance(pose.x, pose.y) > 0.1)
    latest = pose.ray_end(100.0)
    earlier = latest[0] + apart * math.sin(angle), latest[1] - apart * math.cos(angle)
    relative = heading - math.pi / 2 - angle
    assume(0.01 < abs(relative) < 1.4 and abs(math.cos(heading - math.pi / 2)) > 0.05)
    found = read_wall(pose, earlier, latest)
    assert found == pytest.approx(by_law_of_cosines(pose, earlier, latest), rel=1e-5, abs=1e-5)


def test_sign_of_the_angle():
    """Positive where the wall ahead comes nearer, as in the context; 0 beside it."""
    env = WallFollow()
    env.reset(options={"context": [180.0, 0.7]})
    observation, *_ = env.step(np.array([100.0, 100.0]))
    assert observation[1] == pytest.approx(0.7)
    env.reset(options={"context": [180.0, 0.7]})
    for _ in range(5):
        env.step(np.array([-140.0, 140.0]))
    observation, *_ = env.step(np.array([50.0, 50.0]))
    assert env.pose.heading - math.pi / 2 == pytest.approx(0.5)
    assert observation[1] == pytest.approx(0.2)
    for _ in range(4):
        env.step(np.array([-140.0, 140.0]))
    observation, *_ = env.step(np.array([50.0, 50.0]))
    assert observation[1] == pytest.approx(-0.2)


def test_distance_is_along_the_lateral_line():
    env = WallFollow()
    env.reset(options={"context": [180.0, 0.7]})
    observation, *_ = env.step(np.array([100.0, 100.0]))
    # Law of sines in the triangle of robot, wall point beside it and end of the first ray.
    ray_end = complex(180 * math.cos(math.radians(18)), 180 * math.sin(math.radians(18)))
    beside = ray_end.real + (ray_end.imag - 10.0) * math.tan(0.7)
    assert observation[0] == pytest.approx(beside)


def test_no_line_is_distance_zero():
    """Equal readings from one place show nothing: no NaN, no reward."""
    assert read_wall(Pose(0, 0, 1.0), (5.0, 5.0), (5.0, 5.0)) is None
    assert read_wall(Pose(0, 0, math.pi / 2), (5.0, 5.0), (9.0, 5.0)) is None
    env = WallFollow()
    env.reset(options={"context": [180.0, 0.7]})
    observation, reward, *_ = env.step(np.zeros(2))
    assert observation.tolist() == [0.0, 0.0]
    assert reward == 0.0


@pytest.mark.parametrize(
    ("distance", "angle", "reward"),
    [
        (10.0, 0.0, 1.0),
        (110.0, 0.0, math.exp(-0.25)),
        (10.0, 0.02, math.exp(-1)),
        (0.2, -0.01, math.exp(-0.0245 - 0.5)),
        (0.1, 0.0, 0.0),
        (0.0, 0.0, 0.0),
    ],
)
def test_reward(distance, angle, reward):
    assert reward_for(distance, angle) == pytest.approx(reward, rel=1e-12)


def run(env, gains, context=None, seed=0):
    policy = Pid().build(env.observation_space, env.action_space)
    act = policy.bind(np.array(gains, dtype=float))
    options = None if context is None else {"context": np.array(context)}
    observation, _ = env.reset(seed=seed, options=options)
    rewards, last = [], {}
    for _ in range(300):
        observation, reward, _, _, last = env.step(act(policy.encode(observation), None))
        rewards.append(float(reward))
    return np.array(rewards), last


TUNED = (-8.0, 200.0, 8.0, -200.0, *(0.0,) * 8)


def test_a_tuned_controller_follows_the_wall():
    """A wall that cannot be followed, or one that anything follows, would teach nothing."""
    env = WallFollow()
    for context in ([150.0, 0.55], [175.0, 0.8], [200.0, 1.0]):
        rewards, last = run(env, TUNED, context)
        assert rewards.sum() > 200
        assert last["wall_reached"] == 0 or last["time_to_target"] > 0
    straight, last = run(env, (0.0,) * 12, [175.0, 0.8])
    assert straight.sum() < 60
    assert last["collisions"] > 100


def test_logged_figures():
    env = WallFollow()
    env.reset(options={"context": [150.0, 1.0]})
    distances, last = [], {}
    for _ in range(60):
        observation, _, _, _, last = env.step(np.array([150.0, 150.0]))
        distances.append(observation[0])
    reached = next(i for i, d in enumerate(distances) if 0 < d <= 10)
    assert last["wall_reached"] == 1
    assert last["time_to_target"] == pytest.approx(0.1 * (reached + 1))
    assert last["overshoot"] == pytest.approx(max(10 - d for d in distances if d > 0))
    # Straight ahead, the way to the wall is the law of sines again.
    way = 150 * (math.sin(math.radians(18)) + math.cos(math.radians(18)) / math.tan(1.0))
    assert last["collisions"] == 60 - math.floor(way / 15.0)


def test_noise_is_the_seed_s_and_small():
    clear, noisy = WallFollow(), WallFollow(noise=True)
    clear.reset(seed=3)
    noisy.reset(seed=3)
    off = []
    for _ in range(5):
        clear.step(np.array([40.0, 60.0]))
        noisy.step(np.array([40.0, 60.0]))
        off.append(noisy.range - clear.range)
    assert 0 < max(map(abs, off)) <= 2.0
    assert np.array_equal(
        run(noisy, TUNED, seed=4)[0], run(WallFollow(noise=True), TUNED, seed=4)[0]
    )


def test_contexts_fill_their_range():
    env = WallFollow()
    drawn = np.array([env.reset(seed=seed)[0] for seed in range(400)])
    assert ((drawn >= [150, math.pi / 6]) & (drawn <= [200, math.pi / 3])).all()
    assert drawn.min(axis=0) == pytest.approx([150, math.pi / 6], rel=0.02)
    assert drawn.max(axis=0) == pytest.approx([200, math.pi / 3], rel=0.02)


def test_speeds_beyond_the_limit_are_the_limit():
    env, other = WallFollow(), WallFollow()
    env.reset(seed=1)
    other.reset(seed=1)
    env.step(np.array([1e9, -1e9]))
    other.step(np.array([324.0, -324.0]))
    assert env.pose == other.pose


def test_picture_shows_robot_wall_and_ray():
    env = gym.make("distes/WallFollow-v0", render_mode="rgb_array")
    env.reset(seed=0)
    first = env.render()
    for _ in range(5):
        env.step(np.array([150.0, 150.0]))
    later = env.render()
    assert first.shape == later.shape == (600, 600, 3)
    assert (first != later).any()
    from distes.tasks.envs import wall_view

    for color in (wall_view.BRICK, wall_view.GOAL, wall_view.BODY, wall_view.RAY):
        assert (later == color).all(axis=2).any()
    env.close()


def test_the_target_is_where_the_reward_is_greatest():
    assert Pid().setpoint[0] == wall_follow.TARGET_MM
