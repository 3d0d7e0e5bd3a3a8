"""The `recguru` command: mounts the commands of the packages, nothing else."""

from client.cli import app as client_app
from client.doctor_cli import doctor_app
from indexer.cli import app as indexer_app
from indexer.doctor import examine
from indexer.versions_cli import app as versions_app
from model.cli import app as model_app
from model.console import make_app, run
from server.cli import app as server_app

app = make_app("Cross-domain recommendation: from interaction logs to an answered Recommend call.")
app.add_typer(model_app)
app.add_typer(indexer_app, name="indexer")
app.add_typer(versions_app, name="releases")
app.add_typer(server_app)
app.add_typer(client_app)
app.add_typer(doctor_app(examine))


def main() -> None:
    """Run the command line of this process."""
    run(app)


if __name__ == "__main__":
    main()
