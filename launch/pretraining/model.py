"""A decoder-only language model in Qwen3's form, with Qwen3's parameter names."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Shape:
    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    head_dim: int
    rope_base: float = 10_000.0
    initial_deviation: float = 0.02


class Qwen3RMSNorm(nn.Module):
    def __init__(self, size, epsilon=1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x):
        x32 = x.float()
        return self.weight * (x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + self.epsilon)).to(x.dtype)


class Qwen3RotaryEmbedding(nn.Module):
    """Turns the pair (x_i, x_{i+h/2}) of a head of dimension h by position · base^(-2i/h)."""

    def __init__(self, shape):
        super().__init__()
        exponents = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
        self.frequencies = shape.rope_base**-exponents  # no buffer: stays float32

    def forward(self, length, like):
        angles = torch.outer(torch.arange(length, dtype=torch.float32), self.frequencies)
        angles = torch.cat((angles, angles), dim=-1).to(like.device)
        return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def rotate(x, cosine, sine):
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat((-second, first), dim=-1) * sine


class Qwen3Attention(nn.Module):
    """Causal, grouped-query: consecutive query heads share a key/value head. q and k are normalised per head."""

    def __init__(self, shape):
        super().__init__()
        self.head_dim = shape.head_dim
        self.groups = shape.heads // shape.key_value_heads
        self.q_proj = nn.Linear(shape.hidden, shape.heads * shape.head_dim, bias=False)
        self.k_proj = nn.Linear(shape.hidden, shape.key_value_heads * shape.head_dim, bias=False)
        self.v_proj = nn.Linear(shape.hidden, shape.key_value_heads * shape.head_dim, bias=False)
        self.o_proj = nn.Linear(shape.heads * shape.head_dim, shape.hidden, bias=False)
        self.q_norm = Qwen3RMSNorm(shape.head_dim)
        self.k_norm = Qwen3RMSNorm(shape.head_dim)

    def forward(self, x, cosine, sine, mask):
        batch, length, _ = x.shape

        def heads(projected):
            return projected.view(batch, length, -1, self.head_dim)

        q = rotate(self.q_norm(heads(self.q_proj(x))).transpose(1, 2), cosine, sine)
        k = rotate(self.k_norm(heads(self.k_proj(x))).transpose(1, 2), cosine, sine)
        v = heads(self.v_proj(x)).transpose(1, 2)
        k, v = (t.repeat_interleave(self.groups, dim=1) for t in (k, v))
        scores = q @ k.transpose(-1, -2) * self.head_dim**-0.5 + mask
        mixed = scores.softmax(-1, dtype=torch.float32).to(x.dtype) @ v
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))


class Qwen3MLP(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.intermediate, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.intermediate, bias=False)
        self.down_proj = nn.Linear(shape.intermediate, shape.hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Qwen3DecoderLayer(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.self_attn = Qwen3Attention(shape)
        self.mlp = Qwen3MLP(shape)
        self.input_layernorm = Qwen3RMSNorm(shape.hidden)
        self.post_attention_layernorm = Qwen3RMSNorm(shape.hidden)

    def forward(self, x, cosine, sine, mask):
        x = x + self.self_attn(self.input_layernorm(x), cosine, sine, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Qwen3Model(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Qwen3DecoderLayer(shape) for _ in range(shape.layers))
        self.norm = Qwen3RMSNorm(shape.hidden)
        self.rotary_emb = Qwen3RotaryEmbedding(shape)

    def forward(self, tokens):
        x = self.embed_tokens(tokens)
        length = tokens.shape[1]
        cosine, sine = self.rotary_emb(length, x)
        mask = torch.full((length, length), float("-inf"), dtype=x.dtype, device=x.device).triu(1)
        for layer in self.layers:
            x = layer(x, cosine, sine, mask)
        return self.norm(x)


class Qwen3ForCausalLM(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.model = Qwen3Model(shape)
        self.lm_head = nn.Linear(shape.hidden, shape.vocabulary, bias=False)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=shape.initial_deviation)

    def forward(self, samples):
        """Sum over all positions of the cross entropy, in nats; samples: batch × (length + 1) tokens."""
        logits = self.lm_head(self.model(samples[:, :-1])).float()
        return F.cross_entropy(logits.flatten(0, 1), samples[:, 1:].flatten(), reduction="sum")
