package wire

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var everyMessage = []Message{
	&Run{ID: 7, Length: 10240, Sum: 0xabababab, Argv: []string{"./x.test", "-test.v", "a b\n\"c\""},
		Env: []string{"A=ü"}, Dir: "sub", TimeoutMillis: 5000, Live: true, TTY: true, Rows: 24, Cols: 80, AllowGuestPanic: true},
	&Stdin{ID: 7, Data: []byte("\x00\xff\n")},
	&Signal{ID: 7, Signo: 15},
	&WinSize{ID: 7, Rows: 1, Cols: 2},
	&PowerOff{},
	&Hello{Version: Version, Xen: "4.17.5", Kernel: "6.1.0"},
	&Progress{Text: "starting xenstored"},
	&Alive{ID: 7},
	&Out{ID: 7, FD: 2, Data: bytes.Repeat([]byte{'x'}, MaxData)},
	&Done{ID: 7, Exit: -1, Signal: 9, Error: "time is up", TimedOut: true, Length: 512, Sum: 1, DroppedOut: 3},
	&GuestPanic{ID: 7, Domain: "g", Tail: "Kernel panic - not syncing\r\n"},
}

func TestRoundTrip(t *testing.T) {
	var buf bytes.Buffer
	enc := NewEncoder(&buf)
	for _, m := range everyMessage {
		if err := enc.Encode(m); err != nil {
			t.Fatal(err)
		}
	}
	dec := NewDecoder(&buf)
	for _, want := range everyMessage {
		got, err := dec.Decode()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", want.Kind(), diff)
		}
	}
	if _, err := dec.Decode(); err != io.EOF {
		t.Errorf("after the last frame: %v, want io.EOF", err)
	}
}

func TestBadInput(t *testing.T) {
	good, err := Append(nil, &Progress{Text: "hello"})
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Replace(good, []byte("hello"), []byte("hellp"), 1)
	unknown, err := Append(nil, fakeMessage{})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		in   []byte
		want error
	}{
		{"kernel message", []byte("[    1.0] tsc: unstable\n"), ErrCorrupt},
		{"empty line", []byte("\n"), ErrCorrupt},
		{"noise before", append([]byte{0xff}, good...), ErrCorrupt},
		{"flipped bit", flipped, ErrCorrupt},
		{"carriage return", append(bytes.TrimSuffix(bytes.Clone(good), []byte("\n")), "\r\n"...), ErrCorrupt},
		{"lost byte", append(bytes.Clone(good[:20]), good[21:]...), ErrCorrupt},
		{"cut short", good[:len(good)-5], io.ErrUnexpectedEOF},
		{"too long", bytes.Repeat([]byte{'a'}, MaxFrame+1), ErrTooLong},
		{"unknown kind", unknown, ErrUnknownKind},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := NewDecoder(bytes.NewReader(tt.in)).Decode(); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

type fakeMessage struct{}

func (fakeMessage) Kind() string { return "fake" }

func TestEncodeTooLong(t *testing.T) {
	var buf bytes.Buffer
	err := NewEncoder(&buf).Encode(&Out{Data: make([]byte, MaxFrame)})
	if !errors.Is(err, ErrTooLong) || buf.Len() != 0 {
		t.Errorf("got %v and %d bytes, want ErrTooLong and none", err, buf.Len())
	}
}

func TestEncoderIsConcurrent(t *testing.T) {
	r, w := io.Pipe()
	enc := NewEncoder(w)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 50 {
				if err := enc.Encode(&Out{ID: uint64(i), Data: make([]byte, 100)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() { wg.Wait(); w.Close() }()
	counts := map[uint64]int{}
	for dec := NewDecoder(r); ; {
		m, err := dec.Decode()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		counts[m.(*Out).ID]++
	}
	for i := range 8 {
		if counts[uint64(i)] != 50 {
			t.Errorf("writer %d: %d frames, want 50", i, counts[uint64(i)])
		}
	}
}

func TestDiskHeader(t *testing.T) {
	want := DiskHeader{Role: RoleKit, Length: 1 << 40, SHA256: [32]byte{1, 31: 2}}
	b, err := want.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != DiskSectorSize {
		t.Errorf("header of %d bytes", len(b))
	}
	var got DiskHeader
	if err := got.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	b[40] ^= 1
	for name, bad := range map[string][]byte{"damaged": b, "zeros": make([]byte, 512), "short": b[:60]} {
		if err := got.UnmarshalBinary(bad); !errors.Is(err, ErrNotLabDisk) {
			t.Errorf("%s: got %v, want ErrNotLabDisk", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range everyMessage {
		b, err := Append(nil, m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("@govmi1 00000000 {}\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		dec := NewDecoder(bytes.NewReader(in))
		for {
			m, err := dec.Decode()
			if err != nil {
				return
			}
			// What was accepted must survive another trip.
			again, err := Append(nil, m)
			if errors.Is(err, ErrTooLong) {
				continue // JSON escapes may make it longer than it came
			}
			if err != nil {
				t.Fatal(err)
			}
			m2, err := Parse(again)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(m, m2); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}
