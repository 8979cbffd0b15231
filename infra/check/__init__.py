"""The files of infra/ checked without a cloud: `make infra-check`. A part of the repository, not of the program."""
