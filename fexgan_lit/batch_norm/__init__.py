"""Batch norm and the activation after it as one operation, in bf16 on a processor.

Forward, with r rows (pixels) of a channel, their mean m and variance v:

    z = s x + t,  s = weight / sqrt(v + epsilon),  t = bias - m s;    y = z where z > 0, else slope z

Back, with g the gradient of y, times the slope where z <= 0:

    to bias: sum g,   to weight: sum g (x - m) / sqrt(v + epsilon),
    to x:  s (g - sum g / r) - s (x - m) / (v + epsilon) * sum g (x - m) / r

(S. Ioffe and C. Szegedy, Batch normalization, ICML 2015, section 3.) torch goes through a map four times forward
(mean, variance, result, activation) and three times back; `fexgan_lit.loops.norm` goes through it twice each way and
keeps the map that came in, nothing else.

`layer` has the layer and when it is one; it is computed by `compiled` or, for the same bits, by `operations`.
"""
