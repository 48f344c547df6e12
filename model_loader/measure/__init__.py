"""What a loaded model costs and knows: measurements that return rows and print nothing."""
