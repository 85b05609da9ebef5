# What a developer does here; everything else is plain cargo. ARGS go to the program that is run:
# make run ARGS='-p 11212', make bench ARGS='cpu --rounds 9' (target/release/compare --help).
.PHONY: run test test-long fuzz model lint bench bench-loadgen comparison install

run: ; cargo run --release -- $(ARGS)

test: ; scripts/setup-tests && cargo test --workspace

# A million commands of each dialect, where `test` sends some ten thousand, four hundred kills for
# twenty, three million commands whose order is judged, a value of 1 GiB, and 10,000 clients that send
# half a value: minutes.
test-long: ; scripts/setup-tests && LARDER_DIFFERENTIAL_COMMANDS=1000000 LARDER_CRASH_KILLS=400 \
	cargo test --test differential --test crash && \
	LARDER_LINEARIZABILITY_OPERATIONS=3000000 cargo test --release --test linearizability && \
	LARDER_LARGE_VALUE_BYTES=1073000000 LARDER_LARGE_VALUE_CONNECTIONS=10000 \
	cargo test --release --test large_values -- --test-threads 1 && \
	LARDER_LATENCY_EXCESS_PERCENT=2 cargo test --release --package loadgen --test latency

# An hour for each target, or ARGS='SECONDS TARGET...'; it takes a nightly toolchain and cargo-fuzz.
fuzz: ; scripts/fuzz $(ARGS)

model: ; RUSTFLAGS='--cfg shuttle' cargo test --target-dir target/shuttle --test schedules $(ARGS)

lint: ; cargo fmt --check && cargo clippy --workspace --all-targets -- -D warnings && $(DENY)

bench: ; cargo build --release --workspace && $(REFERENCE) && $(COMPARE) $(ARGS)

# How much the load generator drives, on one core against the null server on the other.
bench-loadgen: ; cargo build --release --workspace && target/release/compare loadgen --servers null $(ARGS)

# The pages in docs/comparison, half an hour on a quiet machine; ARGS='ROUNDS SECONDS'.
comparison: ; cargo build --release --workspace && scripts/comparison $(ARGS)

# For packages: make install DESTDIR=debian/larder PREFIX=/usr
PREFIX = /usr/local
PUT = install -D -m 644 /dev/stdin $(DESTDIR)$(PREFIX)
LOADGEN = target/release/loadgen
LOADGEN_COMMANDS = synthesise compare merge man completions
install: target/release/larder $(LOADGEN)
	install -D $< $(DESTDIR)$(PREFIX)/bin/larder
	install -D $(LOADGEN) $(DESTDIR)$(PREFIX)/bin/loadgen
	install -D -m 644 packaging/larder.conf $(DESTDIR)/etc/larder.conf
	sed 's:/usr/bin:$(PREFIX)/bin:' packaging/larder.service | $(PUT)/lib/systemd/system/larder.service
	$< --generate man | $(PUT)/share/man/man1/larder.1
	$< --generate bash | $(PUT)/share/bash-completion/completions/larder
	$< --generate zsh | $(PUT)/share/zsh/site-functions/_larder
	$< --generate fish | $(PUT)/share/fish/vendor_completions.d/larder.fish
	$(LOADGEN) man | $(PUT)/share/man/man1/loadgen.1
	for command in $(LOADGEN_COMMANDS); do \
		$(LOADGEN) man $$command | $(PUT)/share/man/man1/loadgen-$$command.1; done
	$(LOADGEN) completions bash | $(PUT)/share/bash-completion/completions/loadgen
	$(LOADGEN) completions zsh | $(PUT)/share/zsh/site-functions/_loadgen
	$(LOADGEN) completions fish | $(PUT)/share/fish/vendor_completions.d/loadgen.fish

target/release/larder $(LOADGEN): ; cargo build --release --workspace

# The advisories need the network; `cargo deny check` asks for them too.
DENY = if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; \
	else echo 'cargo-deny is not installed: dependencies go unchecked' >&2; fi
REFERENCE = reference=$$(scripts/reference-memcached target/reference)
COMPARE = target/release/compare --memcached "$$reference"
