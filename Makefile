# See CONTRIBUTING.md.

GO    ?= go
LAB   := $(GO) run ./internal/lab/cmd/lab
# As the go command does, lanes do not run again what has passed before: the same
# test binary in the same machine, byte for byte. CACHED= has them run all.
CACHED := -cached
# The packages with tests for the lab (build tag lab, named TestLab), in two halves
# that take about as long.
SVMLANES  := ./internal/lab/labtest ./vmi ./vmi/linux ./breakpoint ./examples/ps ./examples/doctor ./examples/internal/kfunc ./examples/funcgraph ./examples/bashspy ./examples/uprobe
SVMTRACED := ./xen ./cr3filter ./examples/cr3watch ./examples/recover ./examples/syscalltrace
SMPLANES  := ./xen ./breakpoint ./cr3filter ./examples/recover ./examples/syscalltrace

# Those with tests of what only VMX has, or of the hypervisor's filter.
VMXLANES  := ./internal/lab/labtest ./xen ./vmi ./breakpoint
VMXTRACED := ./cr3filter ./examples/cr3watch ./examples/recover ./examples/syscalltrace ./examples/memwatch ./examples/uprobe
PATCHED   := ./internal/lab/labtest ./xen ./cr3filter ./examples/cr3watch

.PHONY: lab-svm-4.14 lab-svm-4.20 lab-vmx-4.14 lab-vmx-4.20 demo test check unit lanes lab-svm lab-svm-traced lab-smp lab-smp-patched lab-vmx lab-svm-patched lab-vmx-patched lab-vmx-traced lab-table1 lab-host lab soak table1 abi fuzz fuzz-guest clean

# Boots Xen in the VMX lane and traces one process of a guest.
demo:
	@mkdir -p bin
	@CGO_ENABLED=0 GOOS=linux GOARCH=amd64 $(GO) build -o bin/ ./internal/lab/cmd/demo ./examples/syscalltrace
	@$(LAB) run -lane vmx -files bin/demo,bin/syscalltrace -- ./demo -tracer ./syscalltrace

# Everything that CI runs.
test: check unit abi fuzz lanes

check:
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "gofmt would change:"; echo "$$out"; exit 1; }
	GOOS=linux $(GO) vet -tags lab,labhost ./...
	GOOS=darwin $(GO) vet ./...
	GOOS=windows $(GO) vet ./...
	GOOS=linux $(GO) tool staticcheck -tags lab,labhost ./...

# Vetted by check.
unit:
	CGO_ENABLED=1 $(GO) test -race -vet=off ./...

# What decodes Xen's, xenstored's and the guest's words, with words that nobody
# chose; longer with FUZZTIME=10m. At the end of a time, not of a count, the go
# command may call a run without a find a failure (golang.org/issue/75804).
FUZZTIME ?= 10000x
FUZZED   := ./internal/abi ./internal/privcmd ./internal/xenstore ./xen ./breakpoint/journal ./breakpoint
fuzz:
	@mkdir -p bin
	@for p in $(FUZZED); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
			$(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p >bin/fuzz.log 2>&1 || \
				{ grep -q '^ *context deadline exceeded$$' bin/fuzz.log && ! grep -q 'Failing input' bin/fuzz.log; } || \
				{ cat bin/fuzz.log; exit 1; }; \
			echo "$$p $$f: $$(grep -o 'execs: [0-9]*' bin/fuzz.log | tail -1)"; \
		done; \
	done

# What decodes the guest's memory begins with a whole guest's: soak's.
fuzz-guest:
	@$(MAKE) --no-print-directory fuzz FUZZED="./vmi ./vmi/linux ./vmi/linux/strace ./examples/bashspy"

# Sizes, offsets and numbers of Xen's and Linux's headers, by a C compiler: as
# committed, or it fails and shows what changed.
abi:
	$(GO) run ./internal/lab/cmd/abi
	git --no-pager diff --exit-code -- 'testdata/abi/*.json'

# Each lane runs twice, on Debian's Xen and on the patched one. An emulator has one
# thread for each CPU of its machine. Those with one run two at a time; two CPUs wait
# for each other, and are many times slower where they share a core, so that tests of
# guests with two vCPUs run alone. A test runs where it says most and, if it says the
# same in both lanes, in the SVM lane, whose machines are faster: views and page-table
# isolation are VMX's, all that boots guests for itself is SVM's. soak runs the others
# in the VMX lane, too. A core dump takes minutes under an emulator: soak makes them,
# changes code of guests in all ways, and boots what a PC (HVM) takes.
SMP        := ExactSMP|ExactHits|SharedHits|ScopeMigrating|RecoverOneVCPU|Killed
SVMSKIP    := -skip '^TestLab(Exact|CoreDump|HVM|ProcCode|ProcHooked|$(SMP))$$'
PATCHEDRUN := -run '^TestLab(Xen|Conformance|CR3|Filter|Scope)'
VMXRUN     := -run '^TestLab(Xen|Conformance|Filter|ByName)'
VMXPATCHED := -run '^TestLab(Xen|Conformance|CR3($$|FilterChurn|FilterOps|FilterEvents)|View|SingleStep|ExactHits|Strategies|Reads|Stealth|HiddenFrames|GuestDebugs|Cycles|Yardstick|Killed$$|Filter|Scope|MemWatch|Uprobe|LoopEvents|Exact$$|Signals)'

lanes:
	@$(LAB) prepare -lane vmx
	@$(LAB) prepare -lane vmx -xen patched -guest-image compiler
	@$(LAB) prepare -lane svm
	@$(LAB) prepare -lane svm -xen patched
	@$(LAB) prepare -lane svm -suite bullseye
	@$(LAB) prepare -lane svm -suite trixie
	@echo "the lanes run now, two at a time; what they say comes at the end of each"
	@$(MAKE) --no-print-directory -j2 --output-sync=target lab-vmx-traced lab-vmx-patched lab-svm-traced lab-svm lab-table1 lab-vmx lab-host lab-svm-patched lab-svm-4.14 lab-svm-4.20
	@$(MAKE) --no-print-directory lab-smp lab-smp-patched

lab-svm:
	$(LAB) test $(CACHED) -lane svm -cpus 1 -- -timeout 60m -run '^TestLab' $(SVMSKIP) $(TESTFLAGS) $(SVMLANES)

lab-svm-traced:
	$(LAB) test $(CACHED) -lane svm -cpus 1 -- -timeout 60m -run '^TestLab' $(SVMSKIP) $(TESTFLAGS) $(SVMTRACED)

lab-smp:
	$(LAB) test $(CACHED) -lane svm -- -timeout 60m -run '^TestLab($(SMP))$$' $(TESTFLAGS) $(SMPLANES)

lab-vmx:
	$(LAB) test $(CACHED) -lane vmx -- -timeout 60m $(VMXRUN) $(TESTFLAGS) ./internal/lab/labtest ./xen ./cr3filter ./examples/cr3watch ./examples/syscalltrace

# What package xen promises, on the other releases that Debian has. The VMX
# lane's are for those who change package xen: they take minutes.
RELEASES := -timeout 60m -run '^TestLab(Xen|Conformance)$$' $(TESTFLAGS) ./internal/lab/labtest ./xen
lab-svm-4.14:
	$(LAB) test $(CACHED) -lane svm -cpus 1 -suite bullseye -- $(RELEASES)
lab-svm-4.20:
	$(LAB) test $(CACHED) -lane svm -cpus 1 -suite trixie -- $(RELEASES)
lab-vmx-4.14:
	$(LAB) test $(CACHED) -lane vmx -suite bullseye -- $(RELEASES)
lab-vmx-4.20:
	$(LAB) test $(CACHED) -lane vmx -suite trixie -- $(RELEASES)

# On Xen with the patches of patches/xen.
lab-svm-patched:
	$(LAB) test $(CACHED) -lane svm -cpus 1 -xen patched -- -timeout 60m $(PATCHEDRUN) $(SVMSKIP) $(TESTFLAGS) $(PATCHED)

lab-smp-patched:
	$(LAB) test $(CACHED) -lane svm -xen patched -- -timeout 60m -run '^TestLabScopeMigrating$$' $(TESTFLAGS) ./cr3filter

lab-vmx-patched:
	$(LAB) test $(CACHED) -lane vmx -xen patched -- -timeout 60m $(VMXPATCHED) $(TESTFLAGS) $(VMXLANES)

lab-vmx-traced:
	$(LAB) test $(CACHED) -lane vmx -xen patched -- -timeout 60m $(VMXPATCHED) $(TESTFLAGS) $(VMXTRACED)

# The paper's experiment with one file and one run of each method.
lab-table1:
	@mkdir -p bin
	CGO_ENABLED=0 GOOS=linux GOARCH=amd64 $(GO) build -buildvcs=false -o bin/ ./internal/lab/cmd/table1
	$(LAB) run $(CACHED) -lane vmx -xen patched -guest-image compiler -files bin/table1 -- ./table1 measure -short

# The lab itself: machines that panic, hang or are interrupted fail the run.
lab-host:
	$(GO) test -tags labhost -count=1 -timeout 60m -run '^TestReal' ./internal/lab

# The tests in full, in parts that can be resumed; their logs are in testdata/soak.
soak:
	.ci/soak

# The paper's Table 1, measured again in the VMX lane, within 75 minutes on two
# cores: raw data and report are in testdata/table1.
table1:
	.ci/table1

# An interactive shell in dom0 of a real Xen.
lab:
	@$(LAB) shell -lane $(or $(LANE),vmx)

clean:
	rm -rf bin
