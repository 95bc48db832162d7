"""What must a model offer so that TransformerLens' own functions run on it unchanged?

``LanguageModel`` adds to a ``HookedModel`` what ``transformer_lens.patching``, ``tools.analysis``,
``head_detector`` and ``ActivationCache`` ask for: a ``cfg``, tokens from text, and weights under
the names and in the layouts of the field; and ``generate``. What a call of the model can ask for is
in ``running``; inputs of single heads are in ``forks``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, cast, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens import FactoredMatrix
from transformer_lens.config import TransformerLensConfig
from transformer_lens.utilities import composition_scores

from gpt.errors import UsageError, check_choice
from gpt.forks import ForkedModel
from gpt.generating import generate

if TYPE_CHECKING:
    from transformer_lens.model_bridge.composition_scores import CompositionScores

    from gpt.model import Block, GPTConfig, LayerNorm


@runtime_checkable
class Tokenizer(Protocol):
    """Text to token ids and back."""

    def encode(self, text: str) -> Int[Tensor, "pos"]: ...

    def decode(self, tokens: Int[Tensor, "pos"]) -> str: ...


@dataclass
class ModelSize(TransformerLensConfig):
    """A model's size, and which of TransformerLens' flags are on."""

    use_attn_in: bool = False
    use_hook_mlp_in: bool = False


class LanguageModel(ForkedModel):
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

    def setup(self) -> None:
        super().setup()
        for block in getattr(self, "blocks", ()):
            block.hook_out_is_single_residual_stream = True  # what TransformerLens' lenses ask

    @property
    def cfg(self) -> ModelSize:
        """The model's size and flags under TransformerLens' names, read off it as it is now.

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
        return ModelSize(
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
            use_attn_result=self.use_attn_result,
            use_split_qkv_input=self.use_split_qkv_input,
            use_attn_in=self.use_attn_in,
            use_hook_mlp_in=self.use_hook_mlp_in,
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

    def blocks_with(self, part: str) -> list[tuple[int, nn.Module]]:
        """The layers that have such a part, ``attn`` for instance, with their numbers."""
        return [(layer, b) for layer, b in enumerate(self._blocks) if part in b._modules]

    @property
    def unembed(self) -> nn.Linear:
        """What turns the normalised stream into logits."""
        return self.lm_head

    @property
    def QK(self) -> FactoredMatrix:
        """What decides where each head looks, ``[layer head d_model d_model]``."""
        W_Q = torch.stack([block.attn.W_Q for block in self._blocks])
        W_K = torch.stack([block.attn.W_K for block in self._blocks])
        return FactoredMatrix(W_Q, W_K.transpose(-2, -1))

    @property
    def OV(self) -> FactoredMatrix:
        """What each head makes of what it looks at, ``[layer head d_model d_model]``."""
        W_V = torch.stack([block.attn.W_V for block in self._blocks])
        W_O = torch.stack([block.attn.W_O for block in self._blocks])
        return FactoredMatrix(W_V, W_O)

    def all_composition_scores(self, mode: Literal["Q", "K", "V"]) -> "CompositionScores":
        """How much of what each head writes each later head's query, key or value can read.

        Returns:
            ``[layer head later_layer later_head]``: the norm of the product of the two heads'
            matrices, over the product of their norms; 0 where the second is not later.

        Raises:
            UsageError: another ``mode``.
        """
        # late: the bridge is half of what importing this package takes, and only this asks for it
        from transformer_lens.model_bridge.composition_scores import CompositionScores

        check_choice("mode", mode, ("Q", "K", "V"))
        reading = {"Q": self.QK, "K": self.QK.T, "V": self.OV}[mode]
        scores = composition_scores(self.OV, reading)
        layers = torch.arange(len(self._blocks), device=scores.device)
        later = (layers[:, None] < layers)[:, None, :, None]
        labels = [f"L{l}H{h}" for l in layers.tolist() for h in range(scores.shape[1])]
        return CompositionScores(scores.where(later, 0), layers.tolist(), labels)

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
        """For each token, the direction of the residual stream that raises its logit.

        The final norm's learned scale is in it, so that attributions sum to the logit: less what
        the norm's bias and the unembedding's add whatever the stream is.
        """
        if isinstance(tokens, str):
            tokens = self.to_single_token(tokens)
        norm = getattr(self, "ln_final", None)
        direction = self.W_U.T[tokens]
        return direction if norm is None else direction * norm.weight

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


class NormWeights:
    """One layer norm's weights."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def reset_parameters(self) -> None:
        """Start again from a scale of 1 and no bias, as torch's own modules do."""
        nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


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
