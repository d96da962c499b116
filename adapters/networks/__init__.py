"""The native networks (torch is imported here), one file a family; what several families share lies in `parts`."""
