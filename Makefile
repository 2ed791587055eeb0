# The same three lines everywhere: a developer's machine and CI.
.PHONY: check test slow long browser demo format picture fuzz

check:
	ruff format --check .
	ruff check .
	mypy
	lint-imports

test:
	pytest -q

slow:
	pytest -q -m slow

long:
	pytest -q -m slow --ignore tests/server/web

browser:
	pytest -q -n2 -m slow tests/server/web

demo:
	homereel generate "a red ball bounces on a green floor" -o ball.mp4

format:
	ruff format .
	ruff check --fix .

picture:
	python docs/picture.py docs/picture.png

fuzz:
	python benchmarks/fuzz_server.py
