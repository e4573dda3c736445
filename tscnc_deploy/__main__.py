"""`python -m tscnc_deploy`, for launchers such as torchrun that start modules."""

from tscnc_deploy.cli import main

if __name__ == "__main__":
    main(prog_name="tscnc-deploy")
