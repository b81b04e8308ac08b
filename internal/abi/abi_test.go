package abi

import (
	"encoding/json"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// headers is what the C compiler says of one release's public headers, see
// testdata/abi/layout.c.
type headers struct {
	Release struct {
		Minor                                        int
		DomctlVersion, SysctlVersion, VMEventVersion uint32
		VMEventSize, DomainInfoStride                int
		AccessDefault                                uint16
	}
	Constants map[string]uint64
	Structs   map[string]layout
}

type layout struct {
	Size   uintptr
	Fields map[string]field
}

type field struct{ Offset, Size uintptr }

// structs are all structures of the package, but for those embedded in others.
var structs = []any{
	AltP2MAccess{}, AltP2MChange{}, AltP2MOp{}, AltP2MState{}, AltP2MVCPUView{}, AltP2MView{},
	CR3Entry{}, CR3List{}, CR3Query{}, CR3Set{}, MonitorCR3Op{},
	DebugOp{}, Domctl{}, GetDomainInfo{}, HVMContext{}, HVMContextPartial{}, MaxMem{}, MonitorCtrlReg{},
	MonitorMSR{}, MonitorOp{}, MonitorRequest{}, MonitorSync{}, VMEventOp{},
	AccessOp{}, DMOp{}, HVMHWCPU{}, HVMParam{}, HVMSaveDescriptor{}, InjectEvent{},
	CompileInfo{}, FlaskOp{}, GetDomainInfoList{}, MemSharingFork{}, MemoryReservation{}, MulticallEntry{}, PhysInfo414{}, PhysInfo417{}, ReadConsole{}, Sysctl{},
	EventCPUID{}, EventCtrlReg{}, EventDebug{}, EventDescAccess{}, EventMSR{}, EventMemAccess{}, EventSingleStep{}, EventVMExit{}, FastSingleStep{}, RegsV6{}, RegsV7{}, VMEventHeader{},
	EvtchnBindInterdomain{}, EvtchnBindUnbound{}, EvtchnPort{}, PrivcmdDMOp{}, PrivcmdDMOpBuf{}, PrivcmdHypercall{}, PrivcmdMmapBatchV2{}, PrivcmdResource{},
}

// own are constants that no header has.
var own = []string{
	"DomctlVersionMin", "DomctlVersionKnown", "DomctlVersionMax", "SysctlVersionMin", "SysctlVersionMax",
	"VMEventV6", "VMEventV7", "InvalidGFN", "NoErrorCode", "PageSize",
	"AccessOpDefault", "SysctlPhysInfo417", "HWCapVMXWord", "HWCapVMX", "HWCapSVMWord", "HWCapSVM",
}

func readHeaders(t *testing.T) map[string]headers {
	t.Helper()
	names, err := filepath.Glob("../../testdata/abi/*.json")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]headers{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var h headers
		if err := json.Unmarshal(b, &h); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[strings.TrimSuffix(filepath.Base(name), ".json")] = h
	}
	for _, want := range []string{"xen-4.14", "xen-4.17", "xen-4.17-patched", "xen-4.20"} {
		if len(all[want].Structs) == 0 || len(all[want].Constants) == 0 {
			t.Fatalf("nothing is known of %s: make abi", want)
		}
	}
	return all
}

// layoutOf is a structure's layout, with the fields of embedded ones as its own.
func layoutOf(typ reflect.Type) layout {
	l := layout{Size: typ.Size(), Fields: map[string]field{}}
	for _, f := range reflect.VisibleFields(typ) {
		if f.Anonymous || f.Name == "_" {
			continue
		}
		var offset uintptr
		for i := range f.Index {
			offset += typ.FieldByIndex(f.Index[:i+1]).Offset
		}
		l.Fields[f.Name] = field{offset, f.Type.Size()}
	}
	return l
}

func TestStructs(t *testing.T) {
	ours := map[string]layout{}
	for _, s := range structs {
		typ := reflect.TypeOf(s)
		ours[typ.Name()] = layoutOf(typ)
	}
	proven := map[string]bool{}
	for release, h := range readHeaders(t) {
		for name, want := range h.Structs {
			proven[name] = true
			got, ok := ours[name]
			if !ok {
				t.Errorf("%s has %s, which is not here", release, name)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s: %s (-headers +ours):\n%s", release, name, d)
			}
		}
	}
	for name := range ours {
		if !proven[name] {
			t.Errorf("layout.c does not know %s", name)
		}
	}
}

// TestStructsComplete sees that no structure was forgotten.
func TestStructsComplete(t *testing.T) {
	var listed []string
	for _, s := range structs {
		typ := reflect.TypeOf(s)
		listed = append(listed, typ.Name())
		for _, f := range reflect.VisibleFields(typ) {
			if f.Anonymous {
				listed = append(listed, f.Type.Name())
			}
		}
	}
	scope := check(t).Scope()
	for _, name := range scope.Names() {
		if _, ok := scope.Lookup(name).Type().Underlying().(*types.Struct); ok && !slices.Contains(listed, name) {
			t.Errorf("%s is in no list", name)
		}
	}
}

// check type-checks this package, without its tests.
func check(t *testing.T) *types.Package {
	t.Helper()
	fset := token.NewFileSet()
	var files []*ast.File
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	conf := types.Config{Importer: importer.Default(), Sizes: types.SizesFor("gc", "amd64")}
	pkg, err := conf.Check("abi", fset, files, nil)
	if err != nil {
		t.Fatal(err)
	}
	return pkg
}

// numbers are the package's constants, and what it computes of the kernel's.
func numbers(t *testing.T) map[string]uint64 {
	t.Helper()
	all := map[string]uint64{
		"IoctlPrivcmdHypercall":      uint64(IoctlPrivcmdHypercall),
		"IoctlPrivcmdMmapBatchV2":    uint64(IoctlPrivcmdMmapBatchV2),
		"IoctlPrivcmdDMOp":           uint64(IoctlPrivcmdDMOp),
		"IoctlPrivcmdResource":       uint64(IoctlPrivcmdResource),
		"IoctlEvtchnBindInterdomain": uint64(IoctlEvtchnBindInterdomain),
		"IoctlEvtchnBindUnbound":     uint64(IoctlEvtchnBindUnbound),
		"IoctlEvtchnUnbind":          uint64(IoctlEvtchnUnbind),
		"IoctlEvtchnNotify":          uint64(IoctlEvtchnNotify),
	}
	scope := check(t).Scope()
	for _, name := range scope.Names() {
		switch obj := scope.Lookup(name).(type) {
		case *types.Const:
			v, ok := constant.Uint64Val(obj.Val())
			if !ok {
				t.Fatalf("%s = %v", name, obj.Val())
			}
			if obj.Exported() {
				all[name] = v
			}
		case *types.Var:
			if _, ok := all[name]; !ok {
				t.Errorf("variable %s is in no list", name)
			}
		}
	}
	return all
}

func TestConstants(t *testing.T) {
	ours := numbers(t)
	proven := map[string]bool{}
	for release, h := range readHeaders(t) {
		for name, want := range h.Constants {
			proven[name] = true
			if got, ok := ours[name]; !ok || got != want {
				t.Errorf("%s: %s = %d (%t), the headers say %d", release, name, got, ok, want)
			}
		}
	}
	for name := range ours {
		if proven[name] == slices.Contains(own, name) {
			t.Errorf("%s is to be either in layout.c or in the list of our own", name)
		}
	}
}

// What the package's functions say of a release is what its headers have.
func TestReleases(t *testing.T) {
	for name, h := range readHeaders(t) {
		r := h.Release
		for _, tt := range []struct {
			what      string
			got, want any
		}{
			{"DomctlVersion", DomctlVersion(4, r.Minor), r.DomctlVersion},
			{"DomainInfoStride", DomainInfoStride(r.DomctlVersion), r.DomainInfoStride},
			{"AccessDefault", AccessDefault(4, r.Minor), r.AccessDefault},
			{"VMEventSize", VMEventSize(r.VMEventVersion), r.VMEventSize},
			{"sysctl version known", r.SysctlVersion >= SysctlVersionMin && r.SysctlVersion <= SysctlVersionMax, true},
			{"domctl version known", r.DomctlVersion >= DomctlVersionMin && r.DomctlVersion <= DomctlVersionKnown, true},
		} {
			if tt.got != tt.want {
				t.Errorf("%s: %s = %v, want %v", name, tt.what, tt.got, tt.want)
			}
		}
	}
}

// An event is its header and registers, of whichever version.
func TestEventSizes(t *testing.T) {
	for version, regs := range map[uint32]any{VMEventV6: RegsV6{}, VMEventV7: RegsV7{}, 5: [0]byte{}} {
		size := VMEventSize(version)
		if version == 5 && size != 0 || version != 5 && size != VMEventData+int(reflect.TypeOf(regs).Size()) {
			t.Errorf("version %d: %d bytes", version, size)
		}
	}
}

// Releases whose headers Debian does not have.
func TestDomctlVersion(t *testing.T) {
	want := map[int]uint32{13: 0, 14: 0x12, 15: 0x13, 16: 0x14, 17: 0x15, 18: 0x16, 19: 0x17, 20: 0x17, 21: 0x17, 22: 0x18}
	for minor, v := range want {
		if got := DomctlVersion(4, minor); got != v {
			t.Errorf("DomctlVersion(4, %d) = %#x, want %#x", minor, got, v)
		}
	}
	if got := DomctlVersion(5, 0); got != 0 {
		t.Errorf("DomctlVersion(5, 0) = %#x", got)
	}
}

func TestAccessDefault(t *testing.T) {
	for minor, want := range map[int]uint16{14: 10, 17: 10, 19: 10, 20: 11, 22: 11} {
		if got := AccessDefault(4, minor); got != want {
			t.Errorf("AccessDefault(4, %d) = %d, want %d", minor, got, want)
		}
	}
}

func FuzzVersions(f *testing.F) {
	for minor := 13; minor <= 23; minor++ {
		f.Add(4, minor, uint32(minor))
	}
	f.Fuzz(func(t *testing.T, major, minor int, version uint32) {
		if v := DomctlVersion(major, minor); v != 0 && (v < DomctlVersionMin || v > DomctlVersionKnown || major != 4 || minor < 14) {
			t.Errorf("DomctlVersion(%d, %d) = %#x", major, minor, v)
		}
		if a := AccessDefault(major, minor); a != AccessRPW && a != AccessRPW+1 {
			t.Errorf("AccessDefault(%d, %d) = %d", major, minor, a)
		}
		if s := DomainInfoStride(version); s < int(reflect.TypeFor[GetDomainInfo]().Size()) || s%8 != 0 {
			t.Errorf("DomainInfoStride(%#x) = %d", version, s)
		}
		if s := VMEventSize(version); s != 0 && RingEntries+RingSlots*s > PageSize {
			t.Errorf("VMEventSize(%d) = %d", version, s)
		}
	})
}
