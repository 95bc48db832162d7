"""What must a model offer so that TransformerLens' own functions run on it unchanged?

``LanguageModel`` adds to a ``HookedModel`` what ``transformer_lens.patching``, ``head_detector``,
and ``ActivationCache`` ask for: a ``cfg``, tokens from text, and weights under the names and in the
layouts of the field; and ``generate``. What a call of the model can ask for is in ``running``.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.config import TransformerLensConfig

from gpt.errors import UsageError
from gpt.generating import generate
from gpt.hooks import HookedModel

if TYPE_CHECKING:
    from gpt.model import Block, GPTConfig, LayerNorm


@runtime_checkable
class Tokenizer(Protocol):
    """Text to token ids and back."""

    def encode(self, text: str) -> Int[Tensor, "pos"]: ...

    def decode(self, tokens: Int[Tensor, "pos"]) -> str: ...


class LanguageModel(HookedModel):
    """A hooked model of text: what it can do beside turning tokens into logits.

    Set ``tokenizer`` to let it take text where it takes tokens. Axes of weights and biases are
    those of the annotations, head by head, as in TransformerLens.
    """

    config: "GPTConfig"
    wte: nn.Embedding
    blocks: nn.ModuleList
    ln_final: "LayerNorm"
    lm_head: nn.Linear
    tokenizer: Tokenizer | None = None

    generate = generate

    @property
    def cfg(self) -> TransformerLensConfig:
        """The model's size under TransformerLens' names, read off the model as it is now.

        Raises:
            UsageError: the model has no blocks.
        """
        blocks = list(getattr(self, "blocks", ()))
        if not blocks:
            raise UsageError(
                f"{type(self).__name__} has no blocks: TransformerLens' functions are about layers "
                "of heads, which it has none of"
            )
        first = blocks[0]
        mlp, norm = getattr(first, "mlp", None), getattr(self, "ln_final", None)
        return TransformerLensConfig(
            d_model=self.config.n_embd,
            d_head=first.attn.d_head,
            n_heads=first.attn.n_head,
            n_key_value_heads=first.attn.n_head,
            n_layers=len(blocks),
            n_ctx=self.config.block_size,
            d_mlp=None if mlp is None else width_of_mlp(mlp),
            attn_only=mlp is None,
            d_vocab=self.config.vocab_size,
            device=str(self.wte.weight.device),
            dtype=self.wte.weight.dtype,
            act_fn=activation_of(mlp),
            normalization_type=None if norm is None else "LN",
            eps=1e-5 if norm is None else norm.eps,
            default_prepend_bos=False,
        )

    @property
    def W_E(self) -> Float[Tensor, "vocab d_model"]:
        return self.wte.weight

    @property
    def W_U(self) -> Float[Tensor, "d_model vocab"]:
        return self.lm_head.weight.T

    @property
    def b_U(self) -> Float[Tensor, "vocab"]:
        return bias_of(self.lm_head)

    def to_tokens(self, text: str | Sequence[str] | Tensor) -> Int[Tensor, "batch pos"]:
        """Token ids of one text or several of equal length. Nothing is prepended.

        Raises:
            UsageError: no tokenizer is set, a character it does not know, or unequal lengths.
        """
        if isinstance(text, Tensor):
            return text if text.ndim == 2 else text[None]
        rows = [self._encode(row) for row in ([text] if isinstance(text, str) else text)]
        if len({len(row) for row in rows}) > 1:
            raise UsageError(
                f"texts of one batch must have equal lengths, not {[len(row) for row in rows]}"
            )
        return torch.stack(rows).to(self.wte.weight.device)

    def to_string(self, tokens: Int[Tensor, "pos"] | Int[Tensor, "1 pos"] | int) -> str:
        """The text of some tokens, or of one. Raises ``UsageError`` where no tokenizer is set."""
        return self._tokenizer.decode(torch.as_tensor(tokens).reshape(-1))

    def to_str_tokens(self, text: str | Int[Tensor, "pos"] | Int[Tensor, "1 pos"]) -> list[str]:
        """Each token of a text, as text. Raises ``UsageError`` where no tokenizer is set."""
        tokens = self.to_tokens(text) if isinstance(text, str) else text
        return [self._tokenizer.decode(token[None]) for token in tokens.reshape(-1)]

    def to_single_token(self, text: str) -> int:
        """The id of a text that is one token. Raises ``UsageError`` where it is not."""
        tokens = self._encode(text)
        if len(tokens) != 1:
            raise UsageError(f"{text!r} is {len(tokens)} tokens, not one")
        return int(tokens[0])

    def tokens_to_residual_directions(
        self, tokens: str | int | Int[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape d_model"]:
        """For each token, the direction of the residual stream that raises its logit."""
        if isinstance(tokens, str):
            tokens = self.to_single_token(tokens)
        return self.W_U.T[tokens]

    def accumulated_bias(
        self, layer: int, mlp_input: bool = False, include_mlp_biases: bool = True
    ) -> Float[Tensor, "d_model"]:
        """The sum of the biases written to the residual stream before ``layer``."""
        total = torch.zeros_like(self.wte.weight[0])
        for block in self._blocks[:layer]:
            total = total + block.attn.b_O
            if include_mlp_biases:
                total = total + block.mlp.b_out
        if mlp_input:
            total = total + self._blocks[layer].attn.b_O
        return total

    @property
    def _blocks(self) -> list["Block"]:
        return cast("list[Block]", list(self.blocks))

    def _encode(self, text: str) -> Int[Tensor, "pos"]:
        return self._tokenizer.encode(text)

    @property
    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise UsageError("this model has no tokenizer: set model.tokenizer, or pass tokens")
        return self.tokenizer


class AttentionWeights:
    """One attention layer's weights, head by head."""

    n_head: int
    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    proj: nn.Linear

    @property
    def W_Q(self) -> Float[Tensor, "head d_model d_head"]:
        return rearrange(self.query.weight, "(h d) m -> h m d", h=self.n_head)

    @property
    def W_K(self) -> Float[Tensor, "head d_model d_head"]:
        return rearrange(self.key.weight, "(h d) m -> h m d", h=self.n_head)

    @property
    def W_V(self) -> Float[Tensor, "head d_model d_head"]:
        return rearrange(self.value.weight, "(h d) m -> h m d", h=self.n_head)

    @property
    def W_O(self) -> Float[Tensor, "head d_head d_model"]:
        return rearrange(self.proj.weight, "m (h d) -> h d m", h=self.n_head)

    @property
    def b_Q(self) -> Float[Tensor, "head d_head"]:
        return bias_of(self.query).view(self.n_head, -1)

    @property
    def b_K(self) -> Float[Tensor, "head d_head"]:
        return bias_of(self.key).view(self.n_head, -1)

    @property
    def b_V(self) -> Float[Tensor, "head d_head"]:
        return bias_of(self.value).view(self.n_head, -1)

    @property
    def b_O(self) -> Float[Tensor, "d_model"]:
        return bias_of(self.proj)


class MLPWeights:
    """One MLP's weights."""

    fc: nn.Linear
    proj: nn.Linear

    @property
    def W_in(self) -> Float[Tensor, "d_model d_mlp"]:
        return self.fc.weight.T

    @property
    def W_out(self) -> Float[Tensor, "d_mlp d_model"]:
        return self.proj.weight.T

    @property
    def b_in(self) -> Float[Tensor, "d_mlp"]:
        return bias_of(self.fc)

    @property
    def b_out(self) -> Float[Tensor, "d_model"]:
        return bias_of(self.proj)


def activation_of(mlp: nn.Module | None) -> str:
    """TransformerLens' name of an MLP's activation function; the rungs' is the only other one."""
    if mlp is None:
        return "none"
    gelu = next((part for part in mlp.modules() if isinstance(part, nn.GELU)), None)
    if gelu is None:
        return "relu"
    return "gelu_new" if gelu.approximate == "tanh" else "gelu"


def width_of_mlp(mlp: nn.Module) -> int:
    """How many neurons an MLP has: what its first linear map gives."""
    return next(part.out_features for part in mlp.modules() if isinstance(part, nn.Linear))


def bias_of(linear: nn.Linear) -> Float[Tensor, "out"]:
    """A linear map's bias; zeros where it has none."""
    return linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias
