import pytest
import torch

from plugins.attacks.gray import PATCH_AREA, gray_patches, gray_some


def draw(shape, seed=0):
    return 255 * torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def patches(images, seed=0):
    return gray_patches(images, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(400, 3, 64, 32), (60, 4, 3, 64, 32)])
def test_a_grey_rectangle_per_row_the_same_in_all_frames(shape):
    images = draw(shape)

    changed = (patches(images) != images).any(dim=-3)  # colour left

    shares = []
    for row in changed.view(shape[0], -1, *shape[-2:]):
        assert (row == row[0]).all()
        rows, columns = row[0].any(dim=1).nonzero(), row[0].any(dim=0).nonzero()
        top, left, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
        assert row[0][top:bottom, left:right].all()
        shares.append(float(row[0].float().mean()))
    assert min(shares) > PATCH_AREA[0] * 0.8 and max(shares) < PATCH_AREA[1] * 1.05
    assert len(set(shares)) > 10


def test_grey_is_luma_in_three_equal_channels():
    images = draw((8, 3, 64, 32))
    result = patches(images)
    changed = (result != images).any(dim=1)
    luma = 0.299 * images[:, 0] + 0.587 * images[:, 1] + 0.114 * images[:, 2]

    for channel in range(3):
        torch.testing.assert_close(result[:, channel][changed], luma[changed], rtol=1e-3, atol=0.1)


def test_the_seed_decides_and_the_input_stays():
    images = draw((8, 3, 64, 32))
    before = images.clone()

    assert torch.equal(patches(images), patches(images))
    assert not torch.equal(patches(images), patches(images, seed=1))
    assert torch.equal(images, before)


def test_a_grey_image_stays_as_it_is():
    images = draw((8, 1, 64, 32)).expand(-1, 3, -1, -1)

    torch.testing.assert_close(patches(images), images, rtol=1e-3, atol=0.1)


def test_a_gradient_passes_through_the_patch():
    images = draw((4, 3, 64, 32)).requires_grad_()

    patches(images).sum().backward()

    # Grey hands its gradient to the channels by their weights; outside it is 1 each.
    torch.testing.assert_close(
        images.grad.sum(dim=1), torch.full((4, 64, 32), 3.0), rtol=2e-3, atol=0
    )


@pytest.mark.parametrize(("probability", "share"), [(0.0, 0.0), (0.2, 0.2), (1.0, 1.0)])
def test_whole_rows_turn_grey_with_their_probability(probability, share):
    clips = draw((1000, 2, 3, 4, 2))

    result = gray_some(clips, probability, torch.Generator().manual_seed(0))

    gray = (result == result[:, :, :1]).flatten(1).all(dim=1)
    assert float(gray.float().mean()) == pytest.approx(share, abs=0.04)
    assert torch.equal(result[~gray], clips[~gray])
