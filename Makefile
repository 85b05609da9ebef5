# What a developer does here; everything else is plain cargo. ARGS go to the program that is run:
# make run ARGS='-p 11212', make bench ARGS='cpu --rounds 9' (target/release/compare --help).
.PHONY: run test test-long model lint bench

run: ; cargo run --release -- $(ARGS)

test: ; scripts/setup-tests && cargo test --workspace

# A million commands of each dialect, where `test` sends some ten thousand: minutes.
test-long: ; scripts/setup-tests && LARDER_DIFFERENTIAL_COMMANDS=1000000 cargo test --test differential

model: ; RUSTFLAGS='--cfg shuttle' cargo test --target-dir target/shuttle --test schedules $(ARGS)

lint: ; cargo fmt --check && cargo clippy --workspace --all-targets -- -D warnings && $(DENY)

bench: ; cargo build --release --workspace && $(REFERENCE) && $(COMPARE) $(ARGS)

# The advisories need the network; `cargo deny check` asks for them too.
DENY = if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; \
	else echo 'cargo-deny is not installed: dependencies go unchecked' >&2; fi
REFERENCE = reference=$$(scripts/reference-memcached target/reference)
COMPARE = target/release/compare --memcached "$$reference"
