"""Opens an artifact as the policy that it is. torch is imported only for those of text."""

from pathlib import Path

from policy_api.contract.artifact import Kind, PolicyManifest

from policy_models.decision import Policy

TEXT = frozenset({Kind.CAUSAL_LM, Kind.REWARD_MODEL})  # kinds that need torch and transformers


def open_policy(
    folder: Path, manifest: PolicyManifest, *, threads: int = 1, draft_tokens: int = 16
) -> Policy:
    """Return the policy of an artifact whose files were checked before.

    Args:
        folder: Has the files.
        manifest: Its policy.json.
        threads: Of torch, for text.
        draft_tokens: Longest guess of a text policy, see text/drafts.py.

    Raises:
        ImportError: It is a text, and torch or transformers are not installed.
        Exception: The files are not what its kind has; libraries raise what they like.
    """
    match manifest.kind:
        case Kind.Q_NETWORK:
            from policy_models.q_policy import QPolicy  # noqa: PLC0415 - one kind a process

            return QPolicy.read(folder)
        case Kind.CLASSIFIER:
            from policy_models.classifier import Classifier  # noqa: PLC0415 - see above

            return Classifier.read(folder)
        case Kind.OFFER_POLICY:
            from policy_models.offers import OfferPolicy  # noqa: PLC0415 - see above

            return OfferPolicy.read(folder)
        case Kind.PLAN_PREFERENCE:
            from policy_models.plan_preference import PreferenceModel  # noqa: PLC0415 - see above

            return PreferenceModel.read(folder)
        case Kind.CAUSAL_LM:
            from policy_models.text.generator import TextPolicy  # noqa: PLC0415 - torch

            return TextPolicy.load(folder, manifest, threads=threads, draft_tokens=draft_tokens)
        case Kind.REWARD_MODEL:
            from policy_models.text.scorer import RewardScorer  # noqa: PLC0415 - torch

            return RewardScorer.load(folder, manifest, threads=threads)
