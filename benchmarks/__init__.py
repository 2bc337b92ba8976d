"""The measurements that README quotes: `make bench`, or `python -m benchmarks.<name>` for one."""
