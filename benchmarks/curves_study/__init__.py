"""Do the rules of `curves` speak when they should, and only then?"""
