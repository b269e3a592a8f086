"""The networks that hpjax is timed against, as PyTorch modules."""

import torch
from torch import nn
from torch.nn import functional


def cnn() -> nn.Module:
    """Returns conv16-pool-conv32-pool-fc64 for 28x28 pictures, channels last."""

    def block(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
        return nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)

    layers = (*block(1, 16), *block(16, 32), nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 10))
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def resnet20() -> nn.Module:
    """Returns ResNet-20 for 32x32 pictures, channels last."""
    layers: list[nn.Module] = [*_convolution(3, 16, 3, 1), nn.ReLU()]
    inputs = 16
    for outputs, stride in ((16, 1), (32, 2), (64, 2)):
        for step in (stride, 1, 1):
            layers.append(ResidualBlock(inputs, outputs, step))
            inputs = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with norm, added to the input; a 1x1 convolution with norm where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        first, second = _convolution(inputs, outputs, 3, stride), _convolution(outputs, outputs, 3, 1)
        self.branch = nn.Sequential(*first, nn.ReLU(), *second)
        self.skip = nn.Sequential(*(() if inputs == outputs else _convolution(inputs, outputs, 1, stride)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns [batch, outputs, height / stride, width / stride]."""
        return functional.relu(self.branch(x) + self.skip(x))


def _convolution(inputs: int, outputs: int, size: int, stride: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs)


class Transformer(nn.Module):
    """A causal language model: 4 blocks of 128 features and 4 heads for 64 of 65 tokens."""

    def __init__(self, vocabulary: int = 65, context: int = 64, width: int = 128, heads: int = 4, depth: int = 4):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the logits [batch, time, vocabulary] of tokens [batch, time]."""
        return self.head(self.norm(self.blocks(self.tokens(x) + self.positions.weight[: x.shape[1]])))


class TransformerBlock(nn.Module):
    """`x + attention(norm(x))`, then `x + perceptron(norm(x))`."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns [batch, time, width]."""
        batch, time, _ = x.shape
        parts = self.qkv(self.attention_norm(x)).view(batch, time, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        heads = functional.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.out(heads.transpose(1, 2).reshape(batch, time, -1))
        return x + self.mlp(self.mlp_norm(x))
