"""The studio: the pages that `homereel serve` shows at /. `studio.mount` puts them before the routes of the API.

Each page is a small file of routes beside its template. They render what the store and the shelf hold at that moment
and keep nothing in the browser, so a tab may be closed at any time and opened again, twice if need be.
"""
