"""What a transposed convolution does after its matrix product: overlapping patches, added up."""

from __future__ import annotations

from typing import Any

import numpy as np

from fexgan_lit.loops.team import my_share, shared, sizes, uints
from fexgan_lit.loops.vectors import LANES, full, high, low, packed, put, take


@shared
def sum_patches(addresses: Any) -> None:
    """(count, h, w, 4, 4, n) -> (count, 2h, 2w, n): patches of 4x4 pixels, two apart, summed in float32."""
    count, h, w, n = sizes(addresses)[:4]
    patches, out = uints(addresses, 1), uints(addresses, 2)
    first, last = my_share(count * 2 * h)
    for line in range(first, last):
        image, y = line // (2 * h), line % (2 * h)
        for x in range(2 * w):
            for k in range(0, n, LANES):
                even = odd = full(np.float32(0))
                for i in range((y + 1) % 2, 4, 2):  # rows and columns of the patches that this pixel lies in
                    for j in range((x + 1) % 2, 4, 2):
                        down, across = (y + 1 - i) // 2, (x + 1 - j) // 2
                        if 0 <= down < h and 0 <= across < w:
                            patch = (image * h + down) * w + across
                            values = take(patches, (16 * patch + 4 * i + j) * n + k)
                            even, odd = even + low(values), odd + high(values)
                put(packed(even, odd), out, (line * 2 * w + x) * n + k)
