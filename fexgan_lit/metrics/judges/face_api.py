"""The networks of face-api for expression and identity (https://github.com/vladmandic/face-api, MIT licence).

Both read RGB faces in 0..255 from which `MEAN` is subtracted, divided by 255. Their weights come from the npm package
(`face_api_weights`). They are for evaluation only and must not be part of a loss; a contract in `pyproject.toml` checks
this.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

#: Mean of red, green and blue in 0..255 that both networks subtract.
MEAN = (122.782, 117.001, 104.298)
#: Outputs of the expression network in order.
EXPRESSIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")


class ExpressionNet(nn.Module):
    """Logits of `EXPRESSIONS`: four dense blocks of depthwise-separable convolutions."""

    size = 112

    def __init__(self) -> None:
        super().__init__()
        self.dense0 = DenseBlock(nn.Conv2d(3, 32, 3, stride=2), 32)  # 112 -> 56
        self.dense1 = DenseBlock(SeparableConv(32, 64, stride=2), 64)  # -> 28
        self.dense2 = DenseBlock(SeparableConv(64, 128, stride=2), 128)  # -> 14
        self.dense3 = DenseBlock(SeparableConv(128, 256, stride=2), 256)  # -> 7
        self.fc = nn.Linear(256, len(EXPRESSIONS))

    def forward(self, faces: Tensor) -> Tensor:
        """Map faces (B, 3, 112, 112) to logits (B, 7)."""
        features = self.dense3(self.dense2(self.dense1(self.dense0(faces))))  # (B, 256, 7, 7)
        return self.fc(features.mean(dim=(2, 3)))


class DenseBlock(nn.Module):
    """Four convolutions, each of which reads the ReLU of the sum of all outputs before it; the first halves the size.

    Args:
        first: the first convolution, 3x3 with stride 2 and without padding.
        channels: channels C of its output and of all others.
    """

    def __init__(self, first: nn.Module, channels: int) -> None:
        super().__init__()
        self.conv0 = first
        self.conv1, self.conv2, self.conv3 = (SeparableConv(channels, channels) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, S, S) with an even S to (B, C, S/2, S/2)."""
        total = F.relu(self.conv0(F.pad(x, (0, 1, 0, 1))))  # TensorFlow pads even sizes right and below
        for conv in (self.conv1, self.conv2, self.conv3):
            total = total + conv(F.relu(total))
        return F.relu(total)


class SeparableConv(nn.Sequential):
    """A 3x3 convolution of every channel by itself, then a 1x1 convolution; with stride 2 it does not pad."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        padding = 1 if stride == 1 else 0
        self.depthwise = nn.Conv2d(channels_in, channels_in, 3, stride, padding, groups=channels_in, bias=False)
        self.pointwise = nn.Conv2d(channels_in, channels_out, 1)


class IdentityNet(nn.Module):
    """128 numbers of a face; faces of one person are close in Euclidean distance. A port of dlib's residual network."""

    size = 150

    def __init__(self) -> None:
        super().__init__()
        self.conv32_down = nn.Conv2d(3, 32, 7, stride=2)  # 150 -> 72, pooled to 35
        self.conv32_1, self.conv32_2, self.conv32_3 = (Residual(32, 32) for _ in range(3))
        self.conv64_down = Residual(32, 64, down=True)  # -> 17
        self.conv64_1, self.conv64_2, self.conv64_3 = (Residual(64, 64) for _ in range(3))
        self.conv128_down = Residual(64, 128, down=True)  # -> 8
        self.conv128_1, self.conv128_2 = (Residual(128, 128) for _ in range(2))
        self.conv256_down = Residual(128, 256, down=True)  # -> 4
        self.conv256_1, self.conv256_2 = (Residual(256, 256) for _ in range(2))
        self.conv256_down_out = Residual(256, 256, down=True)  # -> 2
        self.fc = nn.Linear(256, 128, bias=False)

    def forward(self, faces: Tensor) -> Tensor:
        """Map faces (B, 3, 150, 150) to embeddings (B, 128), whose length is not 1."""
        x = F.max_pool2d(F.relu(self.conv32_down(faces)), 3, stride=2)
        for block in self.children():
            if isinstance(block, Residual):
                x = block(x)
        return self.fc(x.mean(dim=(2, 3)))


class Residual(nn.Module):
    """Two 3x3 convolutions with a shortcut; `down` halves the size, and new channels of the shortcut are zero."""

    def __init__(self, channels_in: int, channels_out: int, down: bool = False) -> None:
        super().__init__()
        self.down, self.new_channels = down, channels_out - channels_in
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=2 if down else 1, padding=0 if down else 1)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, S, S) to (B, C_out, S, S), or to (B, C_out, S // 2, S // 2) with `down`."""
        inner = self.conv2(F.relu(self.conv1(x)))
        if self.down:
            x = F.pad(F.avg_pool2d(x, 2), (0, 0, 0, 0, 0, self.new_channels))
            short = x.shape[-1] - inner.shape[-1]  # 1 if S is even, because `conv1` does not pad
            inner = F.pad(inner, (0, short, 0, short))
        return F.relu(x + inner)
