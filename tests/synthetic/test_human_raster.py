from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from fexgan_lit.synthetic.human.lighting import gather, lamps, neighbours, spread
from fexgan_lit.synthetic.human.raster import (
    FAR,
    Buffers,
    close_holes,
    draw_line_depth,
    draw_lines,
    draw_triangles,
    vertex_normals,
)
from fexgan_lit.synthetic.human.space import CORNER, NODES, STEP, space_around

# --------------------------------------------------------------------------------------------------------- rasteriser


def _draw(points, triangles, size=8, cull=0, bias=None):
    triangles = np.array(triangles, np.int32)
    buffers = Buffers(size)
    draw_triangles(
        np.array(points, np.float32),
        triangles,
        np.full(len(triangles), cull, np.uint8),
        np.zeros(len(triangles), np.float32) if bias is None else np.array(bias, np.float32),
        buffers.depth,
        buffers.triangle,
        buffers.weights,
    )
    return buffers


def test_two_triangles_cover_a_square_without_seam_or_overhang():
    square = [(1, 1, 5), (6, 1, 5), (6, 6, 5), (1, 6, 5)]
    seen = _draw(square, [(0, 1, 2), (0, 2, 3)]).triangle >= 0
    expected = np.zeros((8, 8), bool)
    expected[1:6, 1:6] = True
    np.testing.assert_array_equal(seen, expected)


def test_the_nearer_triangle_wins_in_either_order_and_bias_moves_it_back():
    points = [(0, 0, 5), (8, 0, 5), (0, 8, 5), (0, 0, 3), (8, 0, 3), (0, 8, 3)]
    for order in ([(0, 1, 2), (3, 4, 5)], [(3, 4, 5), (0, 1, 2)]):
        buffers = _draw(points, order)
        assert buffers.depth[1, 1] == 3
        assert buffers.triangle[1, 1] == order.index((3, 4, 5))
    assert _draw(points, [(0, 1, 2), (3, 4, 5)], bias=[0, 4]).triangle[1, 1] == 0


def test_depth_and_weights_are_interpolated():
    buffers = _draw([(0, 0, 0), (8, 0, 8), (0, 8, 0)], [(0, 1, 2)])
    assert buffers.depth[0, 3] == pytest.approx(3.5)
    w0, w1 = buffers.weights[0, 3]
    assert (w0, w1) == pytest.approx((0.5, 0.4375))


def test_back_faces_are_culled_only_where_asked():
    front = [(0, 0, 1), (0, 8, 1), (8, 0, 1)]
    assert (_draw(front, [(0, 1, 2)], cull=1).triangle >= 0).any()
    assert (_draw(front, [(0, 2, 1)], cull=1).triangle < 0).all()
    assert (_draw(front, [(0, 2, 1)], cull=0).triangle >= 0).any()


def test_triangles_outside_the_picture_leave_it_alone():
    assert (_draw([(-50, -50, 1), (-40, -50, 1), (-50, -40, 1)], [(0, 1, 2)]).depth == FAR).all()


def test_lines_respect_depth_and_thin_ones_blend():
    def line(width, depth_there):
        depth, image = np.full((8, 8), depth_there, np.float32), np.zeros((8, 8, 3), np.float32)
        points = np.array([(0, 4.5, 2), (8, 4.5, 2)], np.float32)
        white, starts = np.ones((2, 3), np.float32), np.array([0, 2], np.int32)
        draw_lines(points, starts, white, np.full(2, width, np.float32), 0.0, depth, image)
        return image[..., 0]

    whole = line(1.0, FAR)
    assert whole[4].tolist() == [1] * 8
    assert whole.sum() == 8
    assert line(1.0, 1.0).sum() == 0
    assert line(0.25, FAR)[4, 3] == pytest.approx(0.25)
    assert line(0.0, FAR).sum() == 0


def test_pinholes_close_and_open_ground_stays():
    depth, image = np.full((12, 12), FAR, np.float32), np.zeros((12, 12, 3), np.float32)
    depth[3:9, 3:9], image[3:9, 3:9] = 1, 1
    depth[5, 5], image[5, 5] = FAR, 9
    close_holes(depth, image, 2, 0.5)
    assert image[5, 5, 0] == 0.5
    assert image[0, 0, 0] == image[6, 10, 0] == 0


def test_normals_point_out_of_a_counter_clockwise_triangle():
    normals = vertex_normals(np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0)], np.float32), np.array([[0, 1, 2]], np.int32))
    np.testing.assert_allclose(normals, [[0, 0, 1]] * 3)


# -------------------------------------------------------------------------------------------------------------- light


def test_a_roof_throws_shadow_on_the_floor_below_it():
    floor = [(-8, -5, -8), (-8, -5, 8), (8, -5, 8), (8, -5, -8), (0, -5, 0)]
    roof = [(-3, 2, -3), (-3, 2, 3), (3, 2, 3), (3, 2, -3)]
    points = np.array(floor + roof, np.float32)
    casters = np.array([(5, 6, 7), (5, 7, 8)], np.int32)
    up = np.tile(np.array([0, 1, 0], np.float32), (9, 1))
    lamp = np.array([[0.0, 0.999, 0.045]], np.float32)
    plain = np.zeros((9, 3), np.float32)
    one, texels = np.ones((1, 3), np.float32), np.array([128], np.int32)
    light, seen = gather(points, up, casters, plain, np.ones((9, 1), np.float32), lamp, one, texels)
    assert light[0, 0] == pytest.approx(1.0, abs=0.01)
    assert light[4, 0] < 0.05
    assert seen[4, 1] < 0.05
    veiled, _ = gather(points, up, casters, plain, np.full((9, 1), 0.5, np.float32), lamp, one, texels)
    assert veiled[0, 0] == pytest.approx(0.5, abs=0.01)


def test_light_wanders_to_neighbours_only():
    starts, others = neighbours(np.array([(0, 1, 2)], np.int32), 4)
    values = np.array([[1, 1], [0, 0], [0, 0], [5, 5]], np.float32)
    spread(values, starts, others, np.array([1, 0]))
    assert values[:, 0].tolist() == pytest.approx([0.4, 0.3, 0.3, 5])
    assert values[:, 1].tolist() == [1, 0, 0, 5]


def test_key_light_obeys_gain_and_side():
    plain, strong, right = (lamps(*light) for light in ((1.0, 0.0, 0.0), (1.5, 0.0, 0.0), (1.0, 1.0, 0.0)))
    assert strong.colour[0, 1] == pytest.approx(1.5 * plain.colour[0, 1])
    assert right.towards[0, 0] > plain.towards[0, 0]


# -------------------------------------------------------------------------------------------------------------- space


def test_distance_around_a_ball_is_exact_to_three_centimetres_outside_and_everywhere_inside():
    rng = np.random.default_rng(0)
    up = rng.normal(size=(20000, 3))
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    middle, radius = np.array([0.0, 2.0, 0.0]), 8.0
    distance = space_around((middle + radius * up).astype(np.float32), up.astype(np.float32)).distance
    axes = [CORNER[k] + STEP * np.arange(NODES[k]) for k in range(3)]
    true = np.linalg.norm(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) - middle, axis=-1) - radius
    near = (true < 3.0) & (true > -6.0) & (abs(true) > 0.5)  # not between two points, nor where all are equally near
    assert np.abs(distance - true)[near].max() < 0.1
    assert (distance[(true < -0.5) & (true > -6.0)] < 0).all()
    assert (distance[true >= 3.0] >= 2.9).all()


def test_depth_of_a_line_is_that_of_the_drawn_line():
    points = np.array([(1.2, 1.4, 5), (9.7, 4.1, 3), (3.0, 12.5, 4), (20.0, 14.0, 2)], np.float32)
    starts, widths = np.array([0, 3, 4], np.int32), np.full(4, 0.7, np.float32)
    drawn, alone = np.full((16, 16), FAR, np.float32), np.full((16, 16), FAR, np.float32)
    image = np.zeros((16, 16, 3), np.float32)
    draw_lines(points, starts, np.ones((4, 3), np.float32), widths, 0.0, drawn, image)
    draw_line_depth(points, starts, alone)
    assert np.array_equal(drawn, alone)
    assert (alone < FAR).sum() > 15
