package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/table1"
)

// script is what the traced bash runs.
//
//go:embed build.sh
var script string

// The descriptors of the bash's own calls, see build.sh.
const (
	ownWrites = 1
	ownReads  = 9
)

// workload is the program whose guest time is measured.
type workload struct {
	files  []string
	rounds int
}

// library is all of jansson's sources.
var library = strings.Fields("dump error hashtable hashtable_seed load memory pack_unpack strbuffer strconv utf value version")

// build is one run of the workload: a bash that waits to be told to begin.
type build struct {
	guest *guest.Guest
	bash  *guest.Command
	begin guest.IO
}

func (w workload) prepare(ctx context.Context, g *guest.Guest) (*build, error) {
	setup := fmt.Sprintf("rm -rf /tmp/build /tmp/build.begin /tmp/build.end && mkdir /tmp/build && mkfifo /tmp/build.begin /tmp/build.end && "+
		"head -c %d /dev/zero | tr '\\0' x >/tmp/own.in", w.rounds*len(w.files))
	if err := g.Run(ctx, setup); err != nil {
		return nil, err
	}
	bash, err := g.Start(ctx, fmt.Sprintf("files=%q rounds=%d\n%s", strings.Join(w.files, " "), w.rounds, script))
	if err != nil {
		return nil, err
	}
	b := &build{guest: g, bash: bash}
	if b.begin, err = g.AtPipe(ctx, bash.PID()); err != nil {
		return nil, err
	}
	return b, nil
}

var result = regexp.MustCompile(`build: start=(\d+)\.(\d{6}) end=(\d+)\.(\d{6}) objects=(\d+) writes=(\d+) reads=(\d+)\n`)

// run lets the bash work and returns what the guest says of it. The bash then
// waits at its second pipe.
func (b *build) run(ctx context.Context, phase time.Duration, r *table1.Run) error {
	select {
	case <-time.After(phase):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := b.guest.Run(ctx, "echo go >/tmp/build.begin"); err != nil {
		return err
	}
	m, err := b.bash.WaitLine(ctx, result)
	if err != nil {
		return err
	}
	if err := took(m, r); err != nil {
		return err
	}
	r.PhaseMillis = int(phase.Milliseconds())
	end, err := b.guest.AtPipe(ctx, b.bash.PID())
	if err != nil {
		return err
	}
	r.Kernel = table1.IO{Reads: end.Reads - b.begin.Reads, Writes: end.Writes - b.begin.Writes}
	return nil
}

// took fills in what the bash's last line says, a match of [result].
func took(m []string, r *table1.Run) (err error) {
	var n [8]int64
	for i := 1; i < len(m); i++ {
		if n[i], err = strconv.ParseInt(m[i], 10, 64); err != nil {
			return fmt.Errorf("the guest says %q: %w", m[0], err)
		}
	}
	r.Micros = (n[3]-n[1])*1e6 + n[4] - n[2]
	r.Objects = int(n[5])
	r.Own = table1.IO{Writes: int(n[6]), Reads: int(n[7])}
	return nil
}

// finish lets the bash end and returns the digest of what was compiled.
func (b *build) finish(ctx context.Context) (string, error) {
	if err := b.guest.Run(ctx, "echo go >/tmp/build.end"); err != nil {
		return "", err
	}
	if _, status, err := b.bash.Wait(ctx); err != nil || status != 0 {
		return "", errors.Join(err, fmt.Errorf("the bash ended with status %d", status))
	}
	out, status, err := b.guest.Exec(ctx, "cat /tmp/build/*.o | sha256sum")
	if err != nil || status != 0 {
		return "", errors.Join(err, fmt.Errorf("digest: status %d: %s", status, out))
	}
	digest, _, _ := strings.Cut(strings.TrimSpace(out), " ")
	return digest, nil
}
