"""What people see: notebooks in JupyterLab and in Notebook 7, driven in a real browser."""
