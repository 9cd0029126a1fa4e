"""Upload a data set of pairs to the Hugging Face Hub."""

from pathlib import Path

from degrade.errors import ShardError


def push_to_hub(folder: Path, name: str) -> str:
    """Upload a folder as a data set of the Hub. What is there already is not sent again.

    A new data set is private, because the pairs hold parts of the photographs; its owner makes it public on its page.

    Args:
        folder: the data set; hidden files are left out.
        name: name on the Hub, such as "me/pairs".

    Returns:
        The address of its page.

    Raises:
        ShardError: the Hub cannot be reached, or refuses the upload.
        ValueError: the name cannot be one of a data set.
    """
    from huggingface_hub import HfApi  # takes a while, and is only needed here

    api = HfApi()
    try:
        page = api.create_repo(name, repo_type="dataset", private=True, exist_ok=True)
        api.upload_folder(
            repo_id=page.repo_id,
            repo_type="dataset",
            folder_path=folder,
            ignore_patterns=[".*", "*/.*"],
            commit_message="Upload pairs",
        )
    except Exception as error:
        # the client raises errors of its own and of its HTTP library, which share no base
        if type(error).__module__ == "builtins" and not isinstance(error, OSError):
            raise
        if isinstance(error, ValueError):
            raise
        why = " ".join(str(error).split()) or type(error).__name__
        raise ShardError(
            f"{folder} cannot be uploaded to {name} ({why}): fix this and run the same command again; "
            "`hf auth login` stores the key of your account"
        ) from error
    return str(page)
