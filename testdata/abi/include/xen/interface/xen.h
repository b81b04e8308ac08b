/* The kernel's privcmd.h takes Xen's types from here; they are Xen's own. */
#include <xen/xen.h>
