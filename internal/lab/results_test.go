package lab

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// countedRunner says that each job has passed, or whatever it is given.
type countedRunner struct {
	jobs int
	res  Result
}

func (r *countedRunner) Run(context.Context, *Job) (*Result, error) {
	r.jobs++
	res := r.res
	return &res, nil
}

func (r *countedRunner) Close() error { return nil }

// What has passed is not run again, until something of it is another.
func TestResults(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		path := filepath.Join(dir, "pkg", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("x.test", "binary")
	write("testdata/a", "1")
	rs := Results{Dir: filepath.Join(dir, "passed"), Machine: "m"}
	r := &countedRunner{res: Result{Stdout: []byte("something\nPASS\n")}}
	bin := TestBinary{Path: filepath.Join(dir, "pkg/x.test"), Dir: filepath.Join(dir, "pkg"), Args: []string{"-test.v"}, Env: []string{"A=1"}}
	run := func(what string, want bool) {
		t.Helper()
		var out bytes.Buffer
		one := bin
		one.Args = append(slices.Clone(bin.Args), "-test.testlogfile="+t.TempDir()) // another each time
		one.Stdout, one.Stderr = &out, &out
		before := r.jobs
		status, cached, err := rs.Test(t.Context(), r, &one)
		if status != r.res.Exit || err != nil || cached == want || (r.jobs > before) != want {
			t.Errorf("%s: status %d, cached %v, %d jobs, %v", what, status, cached, r.jobs-before, err)
		}
		if !bytes.HasSuffix(out.Bytes(), r.res.Stdout) {
			t.Errorf("%s: output %q", what, out.Bytes())
		}
	}
	run("first", true)
	run("again", false)
	for what, change := range map[string]func(){
		"another binary":      func() { write("x.test", "another") },
		"another argument":    func() { bin.Args = []string{"-test.run=X"} },
		"another environment": func() { bin.Env = nil },
		"another machine":     func() { rs.Machine = "n" },
		"another file":        func() { write("testdata/a", "2") },
		"one file more":       func() { write("testdata/b", "") },
	} {
		change()
		run(what, true)
		run(what+", again", false)
	}
	r.res = Result{Exit: 1, Stdout: []byte("FAIL\n")}
	bin.Args = nil
	run("a failure", true)
	run("a failure, again", true)

	// What says nothing of success is none.
	r.res = Result{Stdout: []byte("nothing\n")}
	one := bin
	one.Stdout, one.Stderr = new(bytes.Buffer), new(bytes.Buffer)
	for range 2 {
		before := r.jobs
		if _, cached, err := rs.Test(t.Context(), r, &one); err == nil || cached || r.jobs == before {
			t.Errorf("no verdict: cached %v, %v", cached, err)
		}
	}
}

// So are programs that succeed.
func TestResultsOfPrograms(t *testing.T) {
	rs := Results{Dir: filepath.Join(t.TempDir(), "passed"), Machine: "m"}
	for _, tc := range []struct {
		name string
		res  Result
		runs int // of two
	}{
		{"success", Result{Stdout: []byte("done\n")}, 1},
		{"status 3", Result{Exit: 3}, 2},
		{"killed", Result{Signal: 9}, 2},
	} {
		r := &countedRunner{res: tc.res}
		for i := range 2 {
			var out bytes.Buffer
			res, cached, err := rs.Run(t.Context(), r, &Job{Argv: []string{tc.name}, Stdout: &out})
			if err != nil || res.Exit != tc.res.Exit || res.Signal != tc.res.Signal {
				t.Errorf("%s: %+v, %v", tc.name, res, err)
			}
			if want := i == 1 && tc.runs == 1; cached != want || cached && !bytes.HasSuffix(out.Bytes(), tc.res.Stdout) {
				t.Errorf("%s, run %d: cached %v, output %q", tc.name, i+1, cached, out.Bytes())
			}
		}
		if r.jobs != tc.runs {
			t.Errorf("%s: ran %d times, want %d", tc.name, r.jobs, tc.runs)
		}
	}
}
