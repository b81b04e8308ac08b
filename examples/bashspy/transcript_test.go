package main

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSafe(t *testing.T) {
	for text, want := range map[string]string{
		"plain ünï 漢":          "plain ünï 漢",
		"\x1b[2J\x1b]0;x\x07":  "^[[2J^[]0;x^G",
		"a\tb\r\n\x00\x7f":     "a^Ib^M^J^@^?",
		"\xff\xc3(":            `\xff\xc3(`,
		"\u009b31m":            `\u{9b}31m`, // CSI in one character
		"a\u202eb\u200b\ufeff": `a\u{202e}b\u{200b}\u{feff}`,
	} {
		if got := string(appendSafe(nil, []byte(text))); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// No byte sequence of a guest's becomes one that a terminal acts on.
func FuzzSafe(f *testing.F) {
	f.Add([]byte("\x1b[31m\x9b\xc2\x9b\u202e"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got := appendSafe(nil, text)
		for _, r := range string(got) {
			if r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x202a && r <= 0x202e || r == '\ufffd' && !bytes.Contains(text, []byte("\ufffd")) {
				t.Errorf("%q becomes %q", text, got)
			}
		}
	})
}

// told is a session as the kernel passes it on: each key is echoed.
func told(tr *transcript) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	add := func(pid int32, comm string, typed bool, text string) {
		at = at.Add(time.Millisecond)
		tr.add(chunk{at: at, pid: pid, comm: comm, typed: typed, data: []byte(text)})
	}
	add(7, "bash", false, "$ ")
	for _, key := range "ls" {
		add(7, "bash", true, string(key))
		add(7, "bash", false, string(key))
	}
	add(7, "bash", true, "\r")
	add(7, "bash", false, "\r\n")
	add(9, "ls", false, "one\ntw")
	add(9, "ls", false, "o \x1b[31mred\n")
	add(7, "bash", false, "$ ")
	add(7, "bash", true, "sl\x03")
	add(7, "bash", true, "secret")
}

func TestTranscript(t *testing.T) {
	tr := &transcript{}
	told(tr)
	tr.finish()
	want := strings.TrimPrefix(`
03:04:05.002 bash[7] < ls^M
03:04:05.001 bash[7] > $ ls
03:04:05.008 ls[9] > one
03:04:05.008 ls[9] > two ^[[31mred
03:04:05.011 bash[7] < sl^C
03:04:05.010 bash[7] > $ 
03:04:05.012 bash[7] < secret
`, "\n")
	if diff := cmp.Diff(want, string(tr.take(time.Time{}))); diff != "" {
		t.Error(diff)
	}
	if tr.typedBytes != 12 || tr.printedBytes != 25 {
		t.Errorf("%d typed, %d printed", tr.typedBytes, tr.printedBytes)
	}
}

// A prompt is shown although its line does not end.
func TestTranscriptWaits(t *testing.T) {
	tr := &transcript{}
	at := time.Unix(100, 0)
	tr.add(chunk{at: at, pid: 7, comm: "bash", data: []byte("Password: ")})
	if got := tr.take(at.Add(patience / 2)); len(got) != 0 {
		t.Errorf("%q", got)
	}
	if got := tr.take(at.Add(2 * patience)); !bytes.Contains(got, []byte("> Password: \n")) {
		t.Errorf("%q", got)
	}
}

func TestTranscriptBounded(t *testing.T) {
	tr := &transcript{}
	tr.add(chunk{pid: 7, comm: "yes", data: bytes.Repeat([]byte("y"), 3*maxLine+5)})
	if n := len(tr.printed.data); n != 5 || bytes.Count(tr.take(time.Time{}), []byte("\n")) != 3 {
		t.Errorf("%d bytes wait", n)
	}
}

func TestTranscriptJSON(t *testing.T) {
	tr := &transcript{json: true}
	told(tr)
	out := tr.take(time.Time{})
	if m := regexp.MustCompile(`[^\x20-\x7e\n]`).Find(out); m != nil {
		t.Errorf("%q in %q", m, out)
	}
	var typed, printed []byte
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var r record
		if err := d.Decode(&r); err != nil {
			t.Fatal(err)
		}
		if r.Typed {
			typed = append(typed, r.Data...)
		} else {
			printed = append(printed, r.Data...)
		}
	}
	if string(typed) != "ls\rsl\x03secret" || string(printed) != "$ ls\r\none\ntwo \x1b[31mred\n$ " {
		t.Errorf("typed %q, printed %q", typed, printed)
	}
}
