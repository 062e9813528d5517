"""Does the room `attention` capture every map, exactly, of models that it does not know, without harm?"""
