package strace

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A recording holds what one program's calls looked like to the kernel, and
// strace's own text for a second run of the same program at the same
// addresses. It is made by the test under the build tag strace.
type recording struct {
	Calls []recordedCall
	// What differs between the two runs: process ids.
	PIDs, StracePIDs []int
}

type recordedCall struct {
	Regs        Registers
	Ret         int64
	NoReturn    bool         `json:",omitempty"`
	Entry, Exit memorySlices // what was read, at entry and at exit
	Want        string       // strace's line
}

type memorySlices []memorySlice

type memorySlice struct {
	Addr uint64
	Data []byte // nil: not readable
	Len  int    `json:",omitempty"` // of what was not readable
}

var errUnmapped = errors.New("not mapped")

// Read implements Reader from the slices that were recorded.
func (m memorySlices) Read(addr uint64, p []byte) (int, error) {
	for _, s := range m {
		if addr >= s.Addr && addr-s.Addr+uint64(len(p)) <= uint64(len(s.Data)) {
			return copy(p, s.Data[addr-s.Addr:]), nil
		}
	}
	return 0, fmt.Errorf("%#x+%d: %w", addr, len(p), errUnmapped)
}

func loadRecording(t testing.TB, file string) *recording {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	r := new(recording)
	if err := json.Unmarshal(b, r); err != nil {
		t.Fatal(err)
	}
	return r
}

// line is the text of one call alone.
func line(d *Decoder, rc *recordedCall, entry, exit Reader) string {
	var (
		c   Call
		out strings.Builder
		at  = time.Unix(0, 0)
	)
	p := NewPrinter(&out, &PrinterOptions{NoThread: true})
	d.Entry(&c, rc.Regs, entry)
	p.Enter(Thread{}, &c, at)
	if !rc.NoReturn {
		d.Exit(&c, rc.Ret, exit)
		p.Leave(Thread{}, &c, at)
	}
	if err := p.Flush(); err != nil {
		return err.Error()
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// volatile are the parts of a line that differ between two runs of a program.
var volatile = []struct {
	re *regexp.Regexp
	by string
}{
	{regexp.MustCompile(`(tv_u?n?sec|tms_\w+|st?_?[mac]?time|uptime|\w+ram|procs|f_\w*free|f_bavail|f_files|si_[us]time|st_size|stx_size|st_ino)=\d+`), "$1=N"},
	{regexp.MustCompile(`loads=\[[\d, ]+\]`), "loads=[N]"},
	{regexp.MustCompile(`^(times\(.*|time\(.*) = \d+.*`), "$1 = N"},
	{regexp.MustCompile(`^time\(\[.*\]\)`), "time([N])"},
	{regexp.MustCompile(`^(getrandom|uname)\("?.*`), "$1(N"},
	{regexp.MustCompile(`htons\(\d+\)`), "htons(N)"},
	{regexp.MustCompile(`(sa_data=)"[^"]*"`), "$1N"},
	{regexp.MustCompile(`(/\* )\d+( entries| vars)`), "${1}N$2"},
	{regexp.MustCompile(`^(getdents64\(.*) = \d+$`), "$1 = N"},
	{regexp.MustCompile(`^(getcpu\().*\)`), "$1N)"},
	{regexp.MustCompile(`^(shmget|semget|msgget)(.*) = \d+$`), "$1$2 = N"},
}

func normalize(line string, pids []int) string {
	for _, v := range volatile {
		line = v.re.ReplaceAllString(line, v.by)
	}
	return numbers.ReplaceAllStringFunc(line, func(s string) string {
		if n, err := strconv.Atoi(s); err == nil && slices.Contains(pids, n) {
			return "PID"
		}
		return s
	})
}

var numbers = regexp.MustCompile(`\b\d{3,7}\b`)

// TestRecordings compares the decoder's lines with strace's for every call of
// the recorded programs.
func TestRecordings(t *testing.T) {
	files, err := filepath.Glob("testdata/*.calls.gz")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".calls.gz"), func(t *testing.T) {
			r := loadRecording(t, file)
			if len(r.Calls) < 20 {
				t.Fatalf("%d calls only", len(r.Calls))
			}
			d := NewDecoder(nil)
			bad := 0
			for i := range r.Calls {
				rc := &r.Calls[i]
				got := normalize(line(d, rc, rc.Entry, rc.Exit), r.PIDs)
				if diff := cmp.Diff(normalize(rc.Want, r.StracePIDs), got); diff != "" {
					bad++
					if bad < 20 {
						t.Errorf("call %d (-strace +ours):\n%s", i, diff)
					}
				}
			}
			t.Logf("%d lines compared, %d differ", len(r.Calls), bad)
		})
	}
}
