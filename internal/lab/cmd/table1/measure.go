package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/govmi/govmi/internal/lab/table1"
	"github.com/govmi/govmi/internal/lab/wire"
)

// phaseStep parts the runs' starts. The lane's clock is deterministic, so that
// equal starts would give equal runs; the guest's timer ticks every 4 ms.
const phaseStep = 37 * time.Millisecond

// What -short does: the last of the library's files, the smallest, takes a third of
// what others take.
const shortFiles, shortOwn = 1, 200

// measure runs in dom0.
func measure(ctx context.Context, args []string) (err error) {
	fs := flag.NewFlagSet("measure", flag.ContinueOnError)
	list := fs.String("methods", "", "comma-separated `names` of the methods, or none; empty for all")
	runs := fs.Int("runs", 3, "`number` of runs of each method")
	files := fs.Int("files", len(library), "`number` of files to compile, of "+fmt.Sprint(len(library)))
	own := fs.Int("own", 2000, "at least that `many` calls of the bash's own in a run")
	short := fs.Bool("short", false, "one run with one file")
	withCosts := fs.Bool("costs", false, "measure the costs of single events, too")
	commit := fs.String("commit", "", "the source's `commit`, for the record")
	if err := fs.Parse(args); err != nil {
		return err
	}
	chosen, err := choose(*list)
	if err != nil {
		return err
	}
	if *short {
		*runs, *files, *own = 1, shortFiles, shortOwn
	}
	if *files < 1 || *files > len(library) || *runs < 1 || *own < 0 {
		return errors.New("measure: -runs, -files or -own out of range")
	}
	w := workload{files: library[:*files], rounds: (*own + 2**files - 1) / (2 * *files)}
	if *short {
		w.files = library[len(library)-*files:]
	}
	out, err := openRecords()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	say("starting the guest")
	t, err := newTarget(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	setup := &table1.Setup{
		Commit: *commit, Xen: xenName(t), Kernel: t.kernel.Release(), KPTI: t.kernel.KPTI(),
		MemoryMiB: memoryMiB, Files: w.files, OwnRounds: w.rounds,
	}
	if err := out.add(table1.Record{Setup: setup}); err != nil {
		return err
	}
	for _, m := range chosen {
		for i := range *runs {
			r, err := t.once(ctx, m, w, i)
			if err != nil {
				return fmt.Errorf("method %s, run %d: %w", m.name, i+1, err)
			}
			if err := out.add(table1.Record{Run: r}); err != nil {
				return err
			}
		}
	}
	if !*withCosts {
		return nil
	}
	for _, c := range costs {
		for i := range *runs {
			r, err := c.measure(ctx, t, i)
			if err != nil {
				return fmt.Errorf("cost of a %v, measurement %d: %w", &c, i+1, err)
			}
			if err := out.add(table1.Record{Cost: r}); err != nil {
				return err
			}
		}
		if err := t.intact(ctx); err != nil {
			return fmt.Errorf("after the costs of a %v: %w", &c, err)
		}
	}
	return nil
}

// xenName is the hypervisor's release, and whether it is Debian's or patched.
func xenName(t *target) string {
	name := fmt.Sprint(t.hyp.Version())
	if kind := os.Getenv(wire.XenVar); kind != "" {
		name += " (" + kind + ")"
	}
	return name
}

// once does one run.
func (t *target) once(ctx context.Context, m method, w workload, number int) (_ *table1.Run, err error) {
	b, err := w.prepare(ctx, t.guest)
	if err != nil {
		return nil, err
	}
	r := &table1.Run{Method: m.name, Number: number + 1}
	if m.attach != nil {
		p, err := m.attach(t, b.bash.PID())
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, p.Close()) }()
		if err := b.run(ctx, phaseStep*time.Duration(number), r); err != nil {
			return nil, err
		}
		counts, err := p.Counts()
		if err != nil {
			return nil, fmt.Errorf("an event was not understood: %w", err)
		}
		if err := p.Close(); err != nil {
			return nil, err
		}
		r.Monitor = &counts
	} else if err := b.run(ctx, phaseStep*time.Duration(number), r); err != nil {
		return nil, err
	}
	if r.Digest, err = b.finish(ctx); err != nil {
		return nil, err
	}
	if err := t.intact(ctx); err != nil {
		return nil, err
	}
	say("method %s, run %d: %.3f s of guest time, %d objects", m.name, r.Number, float64(r.Micros)/1e6, r.Objects)
	return r, r.Check(len(w.files))
}

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "table1: "+strings.TrimSuffix(format, "\n")+"\n", args...)
}

// records takes the raw data: to a file that the lab brings out, and at once
// to standard output, should this boot not end well.
type records struct {
	file *os.File
	enc  *json.Encoder
}

func openRecords() (*records, error) {
	dir := os.Getenv("GOVMI_LAB_OUT")
	if dir == "" {
		return nil, errors.New("GOVMI_LAB_OUT is not set: table1 measure runs in the lab")
	}
	f, err := os.Create(filepath.Join(dir, "raw.jsonl"))
	if err != nil {
		return nil, err
	}
	return &records{file: f, enc: json.NewEncoder(io.MultiWriter(f, os.Stdout))}, nil
}

func (r *records) add(rec table1.Record) error {
	if err := r.enc.Encode(rec); err != nil {
		return fmt.Errorf("raw data: %w", err)
	}
	return nil
}

func (r *records) Close() error { return r.file.Close() }
