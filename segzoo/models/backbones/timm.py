"""Any backbone of the timm library that gives feature maps, under its own state-dict keys.

Letters: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from segzoo.errors import NetworkError, UsageError, suggestion

# Vision transformers take any input size with the first, window transformers with the second; a
# convolutional network knows neither.
_ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})


class TimmBackbone(nn.Module):
    """The last (up to) four maps of a timm model, from shallow to deep.

    Attributes:
        out_channels: channels of the maps.
    """

    def __init__(self, *, name: str, pretrained: bool = False, drop_path_rate: float = 0.0) -> None:
        super().__init__()
        self.model = _create(name, pretrained, drop_path_rate)
        info = self.model.feature_info
        chosen = range(len(info.channels()))[-4:]
        self.first = chosen[0]
        self.out_channels = [info.channels()[index] for index in chosen]

    def forward(self, image: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> maps [B, out_channels[i], H_i, W_i]."""
        maps = self.model(image)[self.first :]
        channels_last = maps[0].shape[1] != self.out_channels[0]
        return [feature.permute(0, 3, 1, 2) for feature in maps] if channels_last else list(maps)


def _create(name: str, pretrained: bool, drop_path_rate: float) -> Any:
    import timm

    if not timm.is_model(name):
        raise UsageError(f"timm has no model {name!r}{suggestion(name, timm.list_models())}")
    drop_path: dict[str, Any] = {"drop_path_rate": drop_path_rate} if drop_path_rate else {}
    for options in _ANY_SIZE:
        try:
            return timm.create_model(name, pretrained=pretrained, features_only=True, **options, **drop_path)
        except TypeError as error:
            if not any(word in str(error) for word in options):
                raise UsageError(f"timm's {name} cannot be a backbone: {error}") from error
        except OSError as error:
            raise NetworkError(f"timm could not fetch the weights of {name}: {' '.join(str(error).split())}") from error
        except (RuntimeError, AttributeError, NotImplementedError) as error:
            raise UsageError(f"timm's {name} gives no feature maps: {error}") from error
    raise UsageError(f"timm's {name} cannot be built as a backbone")


build = TimmBackbone
