package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

func bzImage(payload []byte) []byte {
	b := make([]byte, 5*512+16)
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x206:], 0x20f)
	b[0x1f1] = 0 // stands for 4
	binary.LittleEndian.PutUint32(b[0x248:], 16)
	binary.LittleEndian.PutUint32(b[0x24c:], uint32(len(payload)+4))
	return append(append(b, payload...), 1, 2, 3, 4)
}

func TestBzImagePayload(t *testing.T) {
	want := []byte{0x1f, 0x8b, 1, 2, 3, 4, 5, 6}
	got, err := bzImagePayload(bzImage(want))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("% x, %v; want % x", got, err, want)
	}
	cut := bzImage(want)
	old := bzImage(want)
	old[0x206], old[0x207] = 0x07, 0x02
	far := bzImage(want)
	binary.LittleEndian.PutUint32(far[0x248:], 0xffffffff)
	for name, b := range map[string][]byte{
		"empty": nil, "cut short": cut[:len(cut)-1], "old protocol": old, "offset beyond": far, "no header": make([]byte, 4096), "no payload": bzImage(nil),
	} {
		if _, err := bzImagePayload(b); !errors.Is(err, errNotBzImage) {
			t.Errorf("%s: %v, want %v", name, err, errNotBzImage)
		}
	}
}

func FuzzBzImagePayload(f *testing.F) {
	f.Add(bzImage([]byte("\xfd7zXZ\x00........")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := bzImagePayload(b); err == nil && expander(p) == nil && len(p) < 4 {
			t.Errorf("payload of %d bytes", len(p))
		}
	})
}
