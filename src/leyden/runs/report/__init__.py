"""`leyden report`: one page about a run or several, from the files in their directories."""
