//! qcow2 bytes to values and back. Pure: no I/O, no clock, no path. Hostile input ends here.
