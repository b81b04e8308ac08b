package abi

// MonitorOpCR3Filter is the operation of XEN_DOMCTL_monitor_op that the patches
// in patches/xen add; a Xen without them fails it with EOPNOTSUPP. The event
// field holds one of the operations below.
const MonitorOpCR3Filter = 5

// MonitorCR3Op is struct xen_domctl_monitor_op as patched: the union has grown.
type MonitorCR3Op struct {
	Op    uint32
	Event uint32
	U     [56]byte
}

// Operations of the filter (XEN_DOMCTL_MONITOR_CR3_*).
const (
	CR3FilterQuery  = 0
	CR3FilterSet    = 1
	CR3FilterAdd    = 2
	CR3FilterRemove = 3
	CR3FilterList   = 4
	CR3FilterClear  = 5
)

// CR3FilterVersion is XEN_DOMCTL_MONITOR_CR3_VERSION.
const CR3FilterVersion = 1

// Modes and flags of the filter (XEN_DOMCTL_MONITOR_CR3_MODE_*, _F_*).
const (
	CR3FilterOff    = 0
	CR3FilterMatch  = 1
	CR3FilterMember = 2

	CR3FilterTargets = 1 << 0
)

// CR3Set is struct xen_domctl_monitor_cr3_set.
type CR3Set struct {
	Mode   uint32
	Flags  uint32
	Mask   uint64
	Halves uint64
}

// CR3Entry is struct xen_domctl_monitor_cr3_entry.
type CR3Entry struct {
	Value uint64
}

// CR3List is struct xen_domctl_monitor_cr3_list.
type CR3List struct {
	Nr     uint32 // in: room, out: values
	_      uint32
	Values uint64 // guest handle of uint64s
}

// CR3Query is struct xen_domctl_monitor_cr3_query.
type CR3Query struct {
	Version        uint32
	MaxEntries     uint32
	NrEntries      uint32
	SupportedFlags uint32
	Mode           uint32
	Flags          uint32
	Mask           uint64
	Halves         uint64
	Forwarded      uint64
	Dropped        uint64
}
