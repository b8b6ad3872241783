"""What people see and type: options, tables, boards, keys, pictures."""
