"""Winograd's minimal filtering F(2 x 2, 2 x 2) for 4x4 convolutions of stride 2: nine products in place of sixteen.

A 4x4 kernel of stride 2 is a 2x2 kernel on the map whose 2x2 pixels are stacked as channels. In one dimension, with
stacked pixels s0, s1, s2 and taps w0, w1, two neighbouring outputs ask for four products, and three give them both:

    m0 = w0 (s0 - s1),  m1 = (w0 + w1) s1,  m2 = w1 (s2 - s1);    w0 s0 + w1 s1 = m0 + m1,  w0 s1 + w1 s2 = m1 + m2

(S. Winograd, Arithmetic complexity of computations, SIAM 1980; A. Lavin and S. Gray, Fast algorithms for convolutional
neural networks, CVPR 2016, section 4.) In two dimensions that is nine for sixteen. What is multiplied is called the
*parts* of the large map, of the weights and, for gradients, of the small map. With those parts S (9, T, 4C),
W (9, O, 4C) and Y (9, T, O), the products S W^T, Y W and Y^T S are parts of the small map, the large map and the
weights, out of which the three are summed up. In bf16 Y^T S is a product for either half of the tiles, and the two are
added up in float32.

A tile is 2x2 pixels of the small map; B maps of (h, w) pixels have T = B * h/2 * w/2 of them. Parts in bf16 are rounded
once more: a result lies 0.7% of its norm from the exact one, by torch's kernels 0.2%.

`passes` has the passes of a layer. The parts are made and summed up by `operations`, or for bf16 on a processor by
`compiled`, which takes a quarter of the time for the same bits.
"""
