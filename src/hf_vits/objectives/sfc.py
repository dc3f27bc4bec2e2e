"""Loss of fine-grained correspondence: cells of two crops that show the same place of an image become alike.

Hu et al., "Semantic-Aware Fine-Grained Correspondence", arXiv 2207.10456, section 3.2, after PixPro (arXiv
2011.10043); Alxead/SFC (models/fine_grained.py, `regression_loss`).
"""

import torch
from torch import Tensor, nn


class CorrespondenceLoss(nn.Module):
    """Mean cosine similarity of positive pairs of cells, times -2.

    Args:
        positive_radius: two cells are a positive pair if the distance of their centres in the image is below this
            number of cell diagonals, those of the crop with the larger cells.
    """

    def __init__(self, positive_radius: float = 0.5):
        super().__init__()
        self.positive_radius = positive_radius

    def forward(
        self, prediction: Tensor, target: Tensor, boxes: Tensor, target_boxes: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, and `positive_pairs`, their mean number per image.

        An image whose crops do not overlap adds 0 to the mean.

        Args:
            prediction: (batch, channels, rows, columns), of length 1 over the channels.
            target: the same of the other crop; gets no gradient.
            boxes, target_boxes: (batch, 4), the crops' left, top, right and bottom as fractions of the image's width
                and height. In a mirrored crop left is larger than right.
        """
        grid = prediction.shape[-2:]
        with torch.no_grad():
            positive = positive_pairs(boxes.float(), target_boxes.float(), grid, self.positive_radius)
            counts = positive.sum(dim=(1, 2), dtype=torch.float32)
            # The sum over pairs of q . k is the sum over q of q . (sum of its k), so that no matrix of pairs is kept.
            sums = target.detach().flatten(2) @ positive.transpose(1, 2).to(target.dtype)
        similarity = (prediction.flatten(2) * sums).sum(dim=(1, 2), dtype=torch.float32) / (counts + 1e-6)
        return -2 * similarity.mean(), {"positive_pairs": counts.mean()}


def positive_pairs(boxes: Tensor, other_boxes: Tensor, grid: tuple[int, int], radius: float) -> Tensor:
    """Return which cells of two crops are near one another in the image, (batch, cells, cells) of bool.

    Args:
        boxes, other_boxes: as in `CorrespondenceLoss.forward`.
        grid: (rows, columns) of cells.
        radius: largest distance of the centres, exclusive, in diagonals of the larger cells.
    """
    (x, y, diagonal), (other_x, other_y, other_diagonal) = centers(boxes, grid), centers(other_boxes, grid)
    unit = torch.maximum(diagonal, other_diagonal)
    horizontal = (x[:, :, None] - other_x[:, None]) ** 2  # (batch, columns, columns)
    vertical = (y[:, :, None] - other_y[:, None]) ** 2  # (batch, rows, rows)
    distance = (vertical[:, :, None, :, None] + horizontal[:, None, :, None, :]).sqrt()
    near = distance / unit[:, None, None, None, None] < radius
    return near.flatten(3).flatten(1, 2)


def centers(boxes: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the x of the columns' centres (batch, columns), the y of the rows' (batch, rows) and cell diagonals."""
    left, top, right, bottom = boxes.unbind(dim=1)
    rows, columns = grid
    width, height = (right - left) / columns, (bottom - top) / rows
    x = (torch.arange(columns, device=boxes.device) + 0.5) * width[:, None] + left[:, None]
    y = (torch.arange(rows, device=boxes.device) + 0.5) * height[:, None] + top[:, None]
    return x, y, (width**2 + height**2).sqrt()
