package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/govmi/govmi/internal/lab/cache"
)

// TestBinary is a compiled Go test to run in dom0, as `go test -exec` hands it over.
type TestBinary struct {
	// Path is the binary on the host, Args its arguments: -test.run and so on.
	Path string
	Args []string
	// Dir is the package's folder on the host, whose testdata the binary finds in its working folder.
	Dir string
	// Env is added to its environment.
	Env []string
	// Stdout gets the output: while it runs if Live is set, in any case whole.
	Stdout, Stderr io.Writer
	Live           bool
}

// RunTest runs a test binary in dom0 and returns its exit status. It fails closed: status 0 is returned only for a binary that has ended by
// itself, with status 0, after saying PASS of at least one test. The error is nil if the tests ran, passed or not.
func RunTest(ctx context.Context, r Runner, t *TestBinary) (status int, err error) {
	job, err := t.job()
	if err != nil {
		return -1, err
	}
	live := &countingWriter{w: t.Stdout}
	if t.Live {
		job.Stdout, job.Stderr = live, t.Stderr
	}
	res, err := r.Run(ctx, job)
	if err == nil || len(res.Stdout) > 0 {
		if werr := t.show(res, live.n); werr != nil {
			return -1, errors.Join(err, werr)
		}
	}
	if err != nil {
		return -1, err
	}
	if res.Signal != 0 {
		return -1, &Failure{Kind: ErrJob, Detail: fmt.Sprintf("%s was killed by signal %d", path.Base(job.Argv[0]), res.Signal)}
	}
	if res.Exit == 0 {
		return 0, verdict(res.Stdout, res.Stderr)
	}
	return res.Exit, nil
}

// show writes what was not written while the binary ran.
func (t *TestBinary) show(res *Result, shown int64) error {
	if !t.Live {
		_, err := t.Stdout.Write(res.Stdout)
		_, eerr := t.Stderr.Write(res.Stderr)
		return errors.Join(err, eerr)
	}
	if shown == int64(len(res.Stdout)) {
		return nil
	}
	_, err := fmt.Fprintf(t.Stdout, "\nlab: the output came faster than the line; the whole of it:\n%s", res.Stdout)
	return err
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// verdict returns an error unless the output is that of tests that ran and passed.
func verdict(stdout, stderr []byte) error {
	lines := bytes.Split(bytes.TrimSpace(stdout), []byte("\n"))
	passed := false
	for _, line := range lines[max(0, len(lines)-3):] { // coverage may follow
		passed = passed || bytes.Equal(line, []byte("PASS"))
	}
	switch {
	case bytes.Contains(stderr, []byte("testing: warning: no tests to run")):
		return &Failure{Kind: ErrEmpty}
	case !passed:
		return &Failure{Kind: ErrNoVerdict}
	}
	return nil
}

// jobDir is the working folder of a test in its job's folder.
const jobDir = "package"

func (t *TestBinary) job() (*Job, error) {
	name := filepath.Base(t.Path)
	job := &Job{
		Argv:  []string{"./" + name},
		Dir:   jobDir,
		Env:   t.Env,
		Files: []File{{Name: path.Join(jobDir, name), Source: t.Path, Mode: 0o755}},
	}
	testdata, err := Tree(filepath.Join(t.Dir, "testdata"), path.Join(jobDir, "testdata"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	job.Files = append(job.Files, testdata...)
	for _, arg := range t.Args {
		flag, value, _ := strings.Cut(strings.TrimPrefix(arg, "-"), "=")
		switch strings.TrimPrefix(flag, "-") {
		case "test.coverprofile", "test.gocoverdir", "test.cpuprofile", "test.memprofile", "test.blockprofile", "test.mutexprofile", "test.trace":
			return nil, fmt.Errorf("lab: %s: what a test writes in dom0 is not brought back", flag)
		case "test.testlogfile":
			continue // the go command's own
		case "test.timeout":
			d, err := time.ParseDuration(value)
			if err != nil {
				return nil, fmt.Errorf("lab: -%s: %w", flag, err)
			}
			if d > 0 {
				// The binary itself ends with its stacks; this is for one that cannot.
				job.Timeout = d + time.Minute
			}
		}
		job.Argv = append(job.Argv, arg)
	}
	return job, nil
}

var ownVars = []string{SocketVar, MachineVar, ReportVar, cache.Env}

// TestEnv is the part of the environment that tests in dom0 see: GOVMI_..., but for what is the lab's own. dom0 has one CPU; the tests' monitors get what
// monitors there should have, see xen.Monitor.Serve.
func TestEnv() []string {
	env := []string{"GOMAXPROCS=2"}
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "GOVMI_") && !slices.Contains(ownVars, name) {
			env = append(env, kv)
		}
	}
	return env
}
