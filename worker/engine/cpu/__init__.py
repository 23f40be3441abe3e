"""What only the CPU does: frequency domain, lanes, symmetric products, allocator."""
