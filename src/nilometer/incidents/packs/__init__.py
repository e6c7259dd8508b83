"""Domain packs: how a project's exceptions are read, judged, guarded and handled, as one document.

`pack` has the nouns, `reading` makes a pack of a document and tells every problem at once, `store`
keeps versions, and `built_in` has those that ship.
"""
